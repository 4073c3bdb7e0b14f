"""Predictions as files against the official script: label ids of every kind, official colors, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, name2label
from PIL import Image
from programs import assert_refused, run_program
from test_metrics import close, official, run_official  # noqa: F401 (a fixture)
from tiny import make_tiny_dataset, tiny_frames

from stdc.data.labels import LABEL_ID_TO_TRAIN_ID
from stdc.errors import InputError, InputErrors
from stdc.evaluation.judge_predictions import judge_predictions, suspicion, table_text

#: Labels that a stranger's network may predict: all but the license plate, whose id is none of a picture's.
IDS = np.array(sorted(number for number in id2label if number >= 0), np.uint8)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    return make_tiny_dataset(tmp_path / "cityscapes", {"val": ("frankfurt", "lindau")}, 3, 40, 80, polygons=False)


@pytest.fixture
def predictions(cityscapes: Path, tmp_path: Path) -> Path:
    """Label ids, half of them right, the others any label; in folders, under different endings."""
    generator = np.random.RandomState(0)
    folder = tmp_path / "predictions"
    for number, frame in enumerate(tiny_frames(cityscapes, "val")):
        truth = np.asarray(Image.open(next(cityscapes.glob(f"gtFine/val/*/{frame}_gtFine_labelIds.png"))))
        ids = np.where(generator.random_sample(truth.shape) < 0.5, truth, generator.choice(IDS, truth.shape))
        path = folder / ("deep/down" if number % 2 else ".") / f"{frame}{('', '_pred')[number % 2]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids.astype(np.uint8)).save(path)
    return folder


def in_colors(folder: Path, target: Path) -> None:
    """The same predictions as color pictures; groups of poles, which look like poles there, become poles in both."""
    palette = np.zeros((256, 3), np.uint8)
    for label in id2label.values():
        if label.id >= 0:
            palette[label.id] = label.color
    for path in folder.rglob("*.png"):
        (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        ids = np.array(Image.open(path))
        ids[ids == name2label["polegroup"].id] = name2label["pole"].id
        Image.fromarray(ids).save(path)
        Image.fromarray(palette[ids]).save(target / path.relative_to(folder))


def assert_equal(document: Dict[str, Any], theirs: Dict[str, Any]) -> None:
    trained = [next(i for i in IDS if LABEL_ID_TO_TRAIN_ID[i] == number) for number in range(19)]
    matrix = np.array(theirs["confMatrix"], np.int64)
    assert np.array_equal(document["confusion"], matrix[np.ix_(trained, trained)])
    for name, column in document["untrained_predictions"].items():
        label = next(label.id for label in id2label.values() if label.name == name)
        assert column == matrix[trained, label].tolist(), name
    for ours, official_name in (
        (document["class_iou"], "classScores"),
        (document["category_iou"], "categoryScores"),
        (document["iiou"]["class_iiou"], "classInstScores"),
        (document["iiou"]["category_iiou"], "categoryInstScores"),
    ):
        for name, score in ours.items():
            assert close(score, theirs[official_name][name]), (official_name, name)
    assert close(document["miou"], theirs["averageScoreClasses"])
    assert close(document["iiou"]["miiou"], theirs["averageScoreInstClasses"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_figure_equals_the_official_scripts(
    official: Any,  # noqa: F811
    cityscapes: Path,
    predictions: Path,
) -> None:
    document = judge_predictions(predictions, cityscapes, "val")
    # Caravans and trailers are hits of "vehicle" to the official script, though it does not score them.
    assert {"caravan", "trailer", "unlabeled", "ground"} <= set(document["untrained_predictions"])
    assert document["images"] == 6 and document["protocol"]["size"] == [40, 80]
    assert_equal(document, run_official(official, cityscapes, predictions))
    assert document == judge_predictions(predictions, cityscapes, "val", processes=2)


def test_colors_give_the_figures_of_the_label_ids(cityscapes: Path, predictions: Path, tmp_path: Path) -> None:
    in_colors(predictions, tmp_path / "colors")
    ids, colors = (judge_predictions(folder, cityscapes, "val") for folder in (predictions, tmp_path / "colors"))
    # Labels that are not scored share their colors, so they are told apart as a whole only.
    untrained = [np.sum(list(one.pop("untrained_predictions").values()), axis=0).tolist() for one in (ids, colors)]
    assert untrained[0] == untrained[1]
    for one in (ids, colors):
        for inner in (one, *one["protocols"]):
            inner["protocol"].pop("predictions_sha256", None)
            inner.pop("untrained_predictions", None)
    assert ids == colors


def test_program_writes_the_figures_and_shows_the_tables(cityscapes: Path, predictions: Path, tmp_path: Path) -> None:
    options = ("--predictions", predictions, "--dataset", cityscapes, "--output", tmp_path / "metrics.json")
    done = run_program("judge_predictions", *options, "--processes", 1)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert done.stdout.rstrip("\n") == table_text(document)
    road = next(line for line in done.stdout.splitlines() if line.startswith("road"))
    assert road.split() == ["road", f"{100 * document['class_iou']['road']:.2f}", "-"]
    done = run_program("judge_predictions", *options[:4], "--output", tmp_path)
    assert_refused(done, f"--output {tmp_path}: a folder")


def test_train_ids_are_scored_as_the_official_script_does_and_suspected(cityscapes: Path, predictions: Path) -> None:
    assert suspicion(judge_predictions(predictions, cityscapes, "val")) is None
    for path in predictions.rglob("*.png"):
        Image.new("L", Image.open(path).size, 0).save(path)
    document = judge_predictions(predictions, cityscapes, "val")
    assert document["miou"] == 0
    assert suspicion(document) == (
        "100 % of the pixels that count are predicted as labels that are not trained, all of them errors. "
        "Are these train ids? Expected are label ids: road is 7, not 0"
    )


def test_a_link_that_leads_nowhere_is_no_prediction(cityscapes: Path, predictions: Path) -> None:
    path = sorted(predictions.rglob("*.png"))[0]
    path.unlink()
    path.symlink_to("nowhere.png")
    with pytest.raises(InputError, match="no prediction"):
        judge_predictions(predictions, cityscapes, "val")


def test_frames_without_exactly_one_prediction_are_told(cityscapes: Path, predictions: Path, tmp_path: Path) -> None:
    frames = tiny_frames(cityscapes, "val")
    shutil.copy(predictions / f"{frames[0]}.png", predictions / f"{frames[0]}_again.png")
    done = run_program("judge_predictions", "--predictions", predictions, "--dataset", cityscapes)
    assert_refused(done, f"{frames[0]}: 2 predictions, {frames[0]}.png and {frames[0]}_again.png")
    assert len(done.stderr.strip().splitlines()) == 1
    (predictions / f"{frames[2]}.png").unlink()
    with pytest.raises(InputErrors, match=f"2 of 6 frames(.|\n)*{frames[2]}: no prediction"):
        judge_predictions(predictions, cityscapes, "val")
    with pytest.raises(InputError, match="no such folder of predictions"):
        judge_predictions(tmp_path / "missing", cityscapes, "val")
    with pytest.raises(InputError, match="no ground truth in split train"):
        judge_predictions(predictions, cityscapes, "train")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("L", (81, 40)), "81x40 pixels, but the ground truth has 80x40"),
        (Image.new("L", (80, 40), 255), "holds 255; expected label ids"),
        (Image.new("L", (80, 40), 34), "holds 34; expected label ids"),
        (Image.new("RGB", (80, 40), (1, 2, 3)), r"holds the color \(1, 2, 3\), which no label"),
        (Image.fromarray(np.zeros((40, 80), np.uint16)), "16 bits per value; expected 8"),
        (b"", "the file is empty"),
    ],
)
def test_prediction_that_cannot_be_scored_is_named(
    cityscapes: Path, predictions: Path, picture: Any, message: str
) -> None:
    path = predictions / f"{tiny_frames(cityscapes, 'val')[4]}.png"
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    else:
        picture.save(path)
    with pytest.raises(InputError, match=rf"{path.name}: .*{message}"):
        judge_predictions(predictions, cityscapes, "val")
