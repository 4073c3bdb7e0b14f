"""Predictions for the Cityscapes server: what is refused, and the archive."""

from __future__ import annotations

import fnmatch
import zipfile
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from cityscapesscripts.helpers.csHelpers import getCsFileInfo
from PIL import Image

from stdc.errors import InputError, InputErrors
from stdc.evaluation.submission import write_submission
from stdc.prediction.prediction_files import PREDICTION_SUFFIX, prediction_png

FRAMES: List[Dict[str, Any]] = [
    {"frame": f"berlin_{number:06d}_000019", "size": [16, 32], "split": "test"} for number in range(4)
]


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    folder = tmp_path / "predictions"
    folder.mkdir()
    for number, frame in enumerate(FRAMES):
        train_ids = np.random.RandomState(number).randint(0, 19, (16, 32)).astype(np.uint8)
        (folder / f"{frame['frame']}{PREDICTION_SUFFIX}").write_bytes(prediction_png(train_ids))
    return folder


def path_of(folder: Path, number: int) -> Path:
    return folder / f"{FRAMES[number]['frame']}{PREDICTION_SUFFIX}"


def problems_of(folder: Path, output: Path) -> List[str]:
    with pytest.raises(InputErrors) as caught:
        write_submission(folder, FRAMES, output)
    assert not output.exists()
    return caught.value.problems


def test_png_holds_the_label_ids_of_the_official_table() -> None:
    import io

    pixels = np.asarray(Image.open(io.BytesIO(prediction_png(np.arange(19, dtype=np.uint8).reshape(1, 19)))))
    assert pixels.dtype == np.uint8
    assert pixels.ravel().tolist() == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def test_archive_holds_each_prediction_once_under_a_name_the_official_script_finds(
    predictions: Path, tmp_path: Path
) -> None:
    (predictions / "overlays").mkdir()
    (predictions / "overlays" / f"{FRAMES[0]['frame']}_overlay.jpg").write_bytes(b"picture")
    assert write_submission(predictions, FRAMES, tmp_path / "submission.zip") == 4
    with zipfile.ZipFile(str(tmp_path / "submission.zip")) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert archive.read(names[2]) == path_of(predictions, 2).read_bytes()
    for frame in FRAMES:
        info = getCsFileInfo(f"{frame['frame']}_gtFine_labelIds.png")
        pattern = f"{info.city}_{info.sequenceNb}_{info.frameNb}*.png"
        assert len(fnmatch.filter(names, pattern)) == 1


def test_equal_predictions_give_equal_archives(predictions: Path, tmp_path: Path) -> None:
    write_submission(predictions, FRAMES, tmp_path / "first.zip")
    for number in (3, 0):
        path_of(predictions, number).write_bytes(path_of(predictions, number).read_bytes())
    write_submission(predictions, FRAMES[::-1], tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_every_problem_is_listed_at_once(predictions: Path, tmp_path: Path) -> None:
    path_of(predictions, 0).unlink()
    Image.fromarray(np.full((16, 31), 7, np.uint8)).save(path_of(predictions, 1))
    Image.fromarray(np.zeros((16, 32, 3), np.uint8)).save(path_of(predictions, 2))
    data = path_of(predictions, 3).read_bytes()
    path_of(predictions, 3).write_bytes(data[:-20])
    (predictions / f"{FRAMES[1]['frame']}_color.png").write_bytes(data)
    (predictions / f"bonn_000000_000019{PREDICTION_SUFFIX}").write_bytes(data)
    problems = problems_of(predictions, tmp_path / "submission.zip")
    expected = [
        ("berlin_000001_000019_color.png: not the name of a prediction", "move it elsewhere"),
        ("bonn_000000_000019_pred_labelIds.png: no such frame in this split", ""),
        ("berlin_000000_000019_pred_labelIds.png: missing", ""),
        ("berlin_000001_000019_pred_labelIds.png: 31x16, expected 32x16", ""),
        ("berlin_000002_000019_pred_labelIds.png: 8-bit RGB PNG, expected 8-bit gray", ""),
        ("berlin_000003_000019_pred_labelIds.png: cut off at byte", ""),
    ]
    assert len(problems) == len(expected)
    for problem, (start, end) in zip(problems, expected):
        assert problem.startswith(start) and problem.endswith(end), problem


@pytest.mark.parametrize(("value", "listed"), [(0, "0"), (18, "18"), (29, "29"), (255, "255")])
def test_value_that_is_no_trained_label_id_is_refused(
    predictions: Path, tmp_path: Path, value: int, listed: str
) -> None:
    pixels = np.full((16, 32), 7, np.uint8)
    pixels[3, 4] = value
    Image.fromarray(pixels).save(path_of(predictions, 2))
    (problem,) = problems_of(predictions, tmp_path / "submission.zip")
    assert f"pred_labelIds.png: holds {listed}; expected ids of trained classes" in problem


def test_palette_and_16_bit_pictures_are_refused(predictions: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 32), 7, np.uint8)).convert("P").save(path_of(predictions, 0))
    Image.fromarray(np.full((16, 32), 7, np.uint16)).save(path_of(predictions, 1))
    problems = problems_of(predictions, tmp_path / "submission.zip")
    assert ["8-bit palette" in problems[0], "16-bit gray" in problems[1]] == [True, True]


def test_missing_folder_and_empty_split_say_so(tmp_path: Path, predictions: Path) -> None:
    with pytest.raises(InputError, match="no such folder of predictions"):
        write_submission(tmp_path / "nothing", FRAMES, tmp_path / "submission.zip")
    with pytest.raises(InputError, match="no frame of this split"):
        write_submission(predictions, [], tmp_path / "submission.zip")
