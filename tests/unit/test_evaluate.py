"""Evaluation of whole images: protocols, sharing out, figures, and what refuses to be evaluated."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from cityscapesscripts.helpers.labels import trainId2label
from PIL import Image

from stdc.data.dataset import EvalDataset
from stdc.data.entry import Entry
from stdc.errors import InputError
from stdc.evaluation import counts as counting
from stdc.evaluation import evaluate, metrics
from stdc.evaluation.document import Computed, document
from stdc.evaluation.pictures import PART_WIDTH, PredictionPictures
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import state_arrays, with_unused_heads
from stdc.prediction import backends, predict
from stdc.prediction.protocols import Protocol, read_protocols
from stdc.recipe import Network
from stdc.weights import array_files

FULL = Protocol("full", (1.0,), False)
SEG50 = Protocol("seg50", (0.5,), False)
FLIP = Protocol("flip", (1.0,), True)
MULTI = Protocol("ms_flip", (0.5, 1.0, 1.25), True)
REPOSITORY = Path(__file__).resolve().parents[2]
HALF = (0.5, 0.5, 0.5)


class TinyNet(paddle.nn.Layer):
    """Logits from two convolutions, so that neighbors, position and mirroring all matter; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        paddle.seed(3)
        self.first = paddle.nn.Conv2D(3, 8, 3, padding=1)
        self.second = paddle.nn.Conv2D(8, 19, [1, 3], padding=[0, 1])
        self.calls = 0

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        assert not self.training
        self.calls += 1
        return self.second(F.relu(self.first(x))) * 10


@pytest.fixture
def network() -> TinyNet:
    model = TinyNet()
    model.eval()
    return model


@pytest.fixture
def dataset(tmp_path: Path) -> EvalDataset:
    generator = np.random.RandomState(0)
    entries = []
    for number in range(5):
        height, width = 21 + number, 37
        pixels = generator.randint(0, 256, (height, width, 3)).astype(np.uint8)
        label = generator.randint(0, 20, (height, width)).astype(np.uint8)
        label[label == 19] = 255
        frame = f"ulm_{number:06d}_000019"
        paths = tmp_path / f"{frame}.png", tmp_path / f"{frame}_ids.png"
        Image.fromarray(pixels).save(paths[0])
        Image.fromarray(label).save(paths[1])
        entries.append(Entry(frame, *paths))
    return EvalDataset(entries, HALF, HALF)


def logits_of(network: TinyNet, image: np.ndarray) -> np.ndarray:
    return network(paddle.to_tensor(image[None]))[0].numpy().astype(np.float64)


def resize(array: np.ndarray, size: Tuple[int, int], aligned: bool) -> np.ndarray:
    """Bilinear, written from its definition, over the last two axes in float64."""
    for axis, target in ((1, size[0]), (2, size[1])):
        source = array.shape[axis]
        if aligned:
            place = np.arange(target) * ((source - 1) / max(target - 1, 1))
        else:
            place = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
        below = np.minimum(np.floor(place).astype(int), source - 1)
        above = np.minimum(below + 1, source - 1)
        share = (place - below).reshape([-1 if number == axis else 1 for number in range(3)])
        array = np.take(array, below, axis) * (1 - share) + np.take(array, above, axis) * share
    return array


def assert_predicts(prediction: np.ndarray, scores: np.ndarray) -> None:
    """Equal wherever float32 can tell the two best classes apart."""
    best = np.sort(scores, axis=0)
    clear = best[-1] - best[-2] > 1e-4
    assert prediction.shape == scores.shape[1:] and prediction.dtype == np.uint8
    assert clear.mean() > 0.99 and np.array_equal(prediction[clear], scores.argmax(axis=0)[clear])


def test_full_scale_is_the_largest_logit(network: TinyNet, dataset: EvalDataset) -> None:
    image = dataset[0][0]
    (prediction,) = predict.predict(network, image, [FULL])
    assert np.array_equal(prediction, logits_of(network, image).argmax(axis=0))


def test_one_scale_is_resized_as_in_the_authors_code(network: TinyNet, dataset: EvalDataset) -> None:
    image = dataset[2][0]  # 23 x 37, so half of it is rounded down
    (prediction,) = predict.predict(network, image, [SEG50])
    small = resize(image.astype(np.float64), (11, 18), aligned=True).astype(np.float32)
    assert_predicts(prediction, resize(logits_of(network, small), (23, 37), aligned=True))


def test_multi_scale_starts_from_the_original_image_each_time(network: TinyNet, dataset: EvalDataset) -> None:
    image = dataset[2][0]
    (prediction,) = predict.predict(network, image, [MULTI])
    total = np.zeros((19, 23, 37))
    for scaled in ((12, 19), (23, 37), (29, 46)):
        resized = resize(image.astype(np.float64), scaled, aligned=False).astype(np.float32)
        total += resize(logits_of(network, resized), (23, 37), aligned=False)
        mirrored = logits_of(network, np.ascontiguousarray(resized[:, :, ::-1]))[:, :, ::-1]
        total += resize(mirrored, (23, 37), aligned=False)
    assert_predicts(prediction, total / 6)


def test_protocols_share_passes_without_changing_each_other(network: TinyNet, dataset: EvalDataset) -> None:
    image = dataset[1][0]
    protocols = [MULTI, FULL, SEG50, FLIP]
    alone = [predict.predict(network, image, [protocol])[0] for protocol in protocols]
    assert network.calls == 6 + 1 + 1 + 2
    network.calls = 0
    together = predict.predict(network, image, protocols)
    # The mirrored protocols' passes hold those at full size; seg50 resizes in another way than the others.
    assert network.calls == 6 + 1
    assert all(np.array_equal(one, other) for one, other in zip(alone, together))
    assert len({prediction.tobytes() for prediction in together}) == 4


def test_counts_equal_those_of_single_images(network: TinyNet, dataset: EvalDataset) -> None:
    (counts,) = evaluate.evaluate(network, dataset, [FULL])
    expected = np.zeros((19, 19), np.int64)
    for image, label, _ in (dataset[index] for index in range(5)):
        prediction = logits_of(network, image).argmax(axis=0)
        for true, predicted in zip(label.ravel(), prediction.ravel()):
            if true != 255:
                expected[true, predicted] += 1
    assert np.array_equal(counts.confusion, expected)
    assert counts.sizes == {index: (21 + index, 37) for index in range(5)}


def test_any_number_of_processes_gives_the_same_figures(network: TinyNet, dataset: EvalDataset, tmp_path: Path) -> None:
    protocols = [FULL, FLIP]
    frames = [entry.frame for entry in dataset.entries]
    instances = np.random.RandomState(1).choice([7, 26001, 26002, 24001], (21 + 4, 37)).astype(np.uint16)
    for index, frame in enumerate(frames):
        path = tmp_path / f"{frame}_instances.png"
        Image.fromarray(instances[: 21 + index]).save(path)
        dataset.entries[index] = dataclasses.replace(dataset.entries[index], instances=path)
    dataset = EvalDataset(dataset.entries, dataset.mean, dataset.std)
    documents = []
    for world_size in (1, 2, 3, 7):
        parts = []
        for rank in range(world_size):
            indices = evaluate.shard(len(dataset), rank, world_size)
            path = tmp_path / f"{world_size}-{rank}.npz"
            counting.save_counts(path, evaluate.evaluate(network, dataset, protocols, indices))
            parts.append(counting.load_counts(path, protocols))
        documents.append(json.dumps(document(counting.merge(parts), frames, Computed("0" * 64, "test"))))
    assert len(set(documents)) == 1
    assert json.loads(documents[0])["iiou"]["class_iiou"]["car"] > 0


def test_shards_hold_every_index_once() -> None:
    for count in (0, 1, 5, 500):
        for world_size in (1, 2, 3, 8):
            shards = [evaluate.shard(count, rank, world_size) for rank in range(world_size)]
            assert sorted(index for shard in shards for index in shard) == list(range(count))
    with pytest.raises(ValueError, match="rank 2 of 2"):
        evaluate.shard(5, 2, 2)


def test_image_counted_twice_is_refused(network: TinyNet, dataset: EvalDataset) -> None:
    part = evaluate.evaluate(network, dataset, [FULL], [0, 1])
    with pytest.raises(ValueError, match="image 1 was evaluated twice"):
        counting.merge([part, evaluate.evaluate(network, dataset, [FULL], [1])])


def test_document_refuses_a_part_of_the_images(network: TinyNet, dataset: EvalDataset) -> None:
    counts = evaluate.evaluate(network, dataset, [FULL], [0, 1, 2, 3])
    frames = [entry.frame for entry in dataset.entries]
    with pytest.raises(ValueError, match="1 of 5 images were not evaluated, the first is ulm_000004_000019"):
        document(counts, frames, Computed("", ""))


def test_document_holds_what_the_contract_names(network: TinyNet, dataset: EvalDataset) -> None:
    frames = [entry.frame for entry in dataset.entries]
    counts = evaluate.evaluate(network, dataset, [FULL, SEG50])
    content = document(counts, frames, Computed("ab" * 32, "paddle cpu", "float32 (tf32)"))
    assert content["miou"] == metrics.mean_iou(counts[0].confusion) == content["protocols"][0]["miou"]
    assert content["protocols"][1]["confusion"] == counts[1].confusion.tolist() != content["confusion"]
    assert content["images"] == 5 and "iiou" not in content
    assert content["protocol"] == {
        "name": "full",
        "size": None,  # the five images differ
        "scales": [1.0],
        "flip": False,
        "precision": "float32 (tf32)",
        "weights_sha256": "ab" * 32,
        "backend": "paddle cpu",
    }
    assert [entry["frame"] for entry in content["per_image"]] == frames
    one = counts[0].confusions[3]
    assert content["per_image"][3]["pixel_accuracy"] == np.trace(one) / one.sum()


def test_training_mode_comes_back(dataset: EvalDataset) -> None:
    model = TinyNet()
    done: List[int] = []
    evaluate.evaluate(model, dataset, [FULL], [2, 0], lambda: done.append(1))
    assert model.training and len(done) == 2


def test_pictures_are_drawn_from_the_predictions_that_are_made_anyway(network: TinyNet, dataset: EvalDataset) -> None:
    pictures = PredictionPictures(dataset, [0, 2, 4], 2)
    evaluate.evaluate(network, dataset, [FULL], [0, 2, 4], watches=[pictures.watch])
    assert network.calls == 3
    assert sorted(pictures.drawn) == ["ulm_000000_000019", "ulm_000004_000019"]
    drawn = pictures.drawn["ulm_000004_000019"]
    # 25 x 37 pixels, enlarged to the width of a part without mixing colors.
    assert drawn.shape == (round(25 * PART_WIDTH / 37), 3 * PART_WIDTH, 3)
    (prediction,) = predict.predict(network, dataset[4][0], [FULL])
    expected = {trainId2label[number].color for number in np.unique(prediction).tolist()}
    assert {tuple(color) for color in np.unique(drawn[:, 2 * PART_WIDTH :].reshape(-1, 3), axis=0).tolist()} == expected


def test_unreadable_image_ends_the_evaluation_by_name(network: TinyNet, dataset: EvalDataset) -> None:
    Path(dataset.entries[3].image).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"ulm_000003_000019.png: not a readable image"):
        evaluate.evaluate(network, dataset, [FULL])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ([], r"evaluate.protocols: \[\]; a list of 1 to 20"),
        ({"name": "a"}, "evaluate.protocols: "),
        (["a"], r"evaluate.protocols\[0\]: 'a'"),
        ([{"name": 5}], r"evaluate.protocols\[0\].name: 5"),
        ([{"name": "a", "scales": [float("nan")]}], r"evaluate.protocols\[0\].scales"),
        ([{"name": "a", "scales": ["1"]}], r"evaluate.protocols\[0\].scales"),
        ([{"name": "a", "flip": "yes"}], r"evaluate.protocols\[0\].flip"),
        ([{"name": "a", "scales": []}], r"evaluate.protocols\[0\].scales"),
        ([{"name": "a", "scales": [1.0, -1.0]}], r"evaluate.protocols\[0\].scales"),
        ([{"name": "a", "scales": [1.0]}, {"name": "a", "scales": [0.5]}], r"\[1\].name: 'a' is there twice"),
    ],
)
def test_protocols_that_make_no_sense_name_the_key(section: List[Dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_protocols(section)


def test_protocols_are_read_with_their_scales_in_order() -> None:
    section = [{"name": "ms", "scales": [1, 0.5, 0.5], "flip": True}, {"name": "one", "scales": [1.0]}]
    assert read_protocols(section) == (Protocol("ms", (0.5, 1.0), True), Protocol("one", (1.0,), False))


# The programs, from files to files.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Weights of both backbones as PaddleSeg would save them, with the heads that never run."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for backbone in ("stdc1", "stdc2"):
        paddle.seed(1)
        paths[backbone] = folder / f"{backbone}.pdparams"
        array_files.write_pdparams(paths[backbone], with_unused_heads(state_arrays(build_segmentor(backbone))))
    return paths


@pytest.fixture
def prepared(tiny_dataset: Path, tmp_path: Path) -> Path:
    """The folder that holds everything a program needs beside weights."""
    from stdc.data.convert import convert_labels, read_index
    from stdc.data.inventory import check_dataset
    from stdc.data.lists import make_lists, write_lists
    from stdc.data.manifest import read_manifest
    from stdc.files import write_json

    write_json(tmp_path / "manifest.json", check_dataset(tiny_dataset, "any"))
    convert_labels(tiny_dataset, tmp_path / "manifest.json", tmp_path / "labels", tmp_path / "labels.json")
    index = read_index(tmp_path / "labels.json", tmp_path / "manifest.json")
    write_lists(tmp_path, make_lists(read_manifest(tmp_path / "manifest.json"), index), ",")
    config = {
        "model": {"backbone": "stdc1"},
        "train": {"preset": "paddleseg"},
        "evaluate": {"protocols": [FULL._asdict(), SEG50._asdict(), MULTI._asdict()]},
        "data": {"separator": ","},
    }
    write_json(tmp_path / "evaluate.json", config)
    return tmp_path


def program(name: str, folder: Path, weights_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "workflow" / "scripts" / f"{name}.py")]
    command += ["--config", str(folder / "evaluate.json"), "--weights", str(weights_path)]
    command += ["--dataset", str(folder / "cityscapes"), "--manifest", str(folder / "manifest.json")]
    if name == "evaluate":
        command += ["--labels", str(folder / "labels"), "--list", str(folder / "val.txt")]
        command += ["--index", str(folder / "labels.json")]
    return subprocess.run(
        [*command, "--threads", "1", *more],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("PADDLE_")},
    )


def test_program_gives_equal_bytes_on_one_device_and_two(prepared: Path, trained: Dict[str, Path]) -> None:
    outputs = []
    for devices in ("1", "2"):
        output = prepared / f"metrics{devices}.json"
        done = program("evaluate", prepared, trained["stdc1"], "--devices", devices, "--output", str(output))
        assert done.returncode == 0, done.stderr
        assert re.search(r"full: mIoU \d+\.\d\d % on ", done.stderr)
        outputs.append(output.read_bytes())
    assert outputs[0] == outputs[1]
    assert not list(prepared.glob(".ranks-*"))
    document = json.loads(outputs[0])
    assert [entry["protocol"]["name"] for entry in document["protocols"]] == ["full", "seg50", "ms_flip"]
    assert document["protocol"]["size"] == [32, 64] and document["images"] == 4
    assert set(document["iiou"]) == {"class_iiou", "category_iiou", "miiou"}
    assert str(prepared) not in outputs[0].decode()


@pytest.mark.skipif(not backends.has_onnxruntime(), reason="onnx and onnxruntime are not installed in this Python")
def test_program_with_onnxruntime_states_backend_and_difference(prepared: Path, trained: Dict[str, Path]) -> None:
    config = json.loads((prepared / "evaluate.json").read_text())
    documents = []
    for backend in ("paddle", "onnxruntime"):
        config["evaluate"].update(backend=backend, compared_images=3)
        (prepared / "evaluate.json").write_text(json.dumps(config))
        output = prepared / f"{backend}.json"
        done = program("evaluate", prepared, trained["stdc1"], "--output", str(output))
        assert done.returncode == 0, done.stderr
        documents.append(json.loads(output.read_text()))
    paddles, others = documents
    assert others["protocol"]["backend"] == paddles["backend_comparison"]["backend"]
    assert paddles["protocol"]["backend"] == others["backend_comparison"]["backend"]
    for found in documents:
        compared = found["backend_comparison"]
        assert (compared["images"], compared["pixels"]) == (3, 3 * 32 * 64)
        # An untrained network tells classes apart by little; where it does, both agree.
        assert compared["differing_pixels"] <= 0.01 * compared["pixels"]
    moved = np.abs(np.array(paddles["confusion"]) - np.array(others["confusion"])).sum()
    assert moved <= 2 * 0.01 * 4 * 32 * 64


@pytest.mark.parametrize("devices", ["1", "2"])
def test_weights_of_another_network_end_with_exit_code_2(
    prepared: Path, trained: Dict[str, Path], devices: str
) -> None:
    output = prepared / "metrics.json"
    done = program("evaluate", prepared, trained["stdc2"], "--devices", devices, "--output", str(output))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "stdc2.pdparams" in done.stderr and "model.backbone" in done.stderr
    assert not output.exists()


def test_network_with_one_parameter_missing_is_not_evaluated(tmp_path: Path) -> None:
    arrays = state_arrays(build_segmentor("stdc1"))
    del arrays["ffm.conv1.weight"]
    array_files.write_pdparams(tmp_path / "model.pdparams", arrays)
    with pytest.raises(InputError, match=r"model\.pdparams: .*ffm\.conv1\.weight: missing"):
        predict.load_network(Network("stdc1"), tmp_path / "model.pdparams")


def test_predictions_are_found_and_scored_alike_by_the_official_evaluation(
    prepared: Path, trained: Dict[str, Path]
) -> None:
    done = program(
        "predict", prepared, trained["stdc1"], "--split", "val", "--overlay", "--output", str(prepared / "predictions")
    )
    assert done.returncode == 0, done.stderr
    done = program("evaluate", prepared, trained["stdc1"], "--output", str(prepared / "metrics.json"))
    assert done.returncode == 0, done.stderr
    ours = json.loads((prepared / "metrics.json").read_text())
    # As a user would run it; NumPy 2.4 lost the one name that the official script needs.
    official = (
        "import numpy, runpy; numpy.in1d = getattr(numpy, 'in1d', numpy.isin); "
        "runpy.run_module('cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling', run_name='__main__')"
    )
    environment = {
        "CITYSCAPES_DATASET": str(prepared / "cityscapes"),
        "CITYSCAPES_RESULTS": str(prepared / "predictions"),
        "CITYSCAPES_EXPORT_DIR": str(prepared),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", official],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads((prepared / "resultPixelLevelSemanticLabeling.json").read_text())
    assert ours["miou"] == pytest.approx(theirs["averageScoreClasses"], rel=1e-12)
    assert ours["iiou"]["miiou"] == pytest.approx(theirs["averageScoreInstClasses"], rel=1e-12)
    for name, score in ours["category_iou"].items():
        assert score is None or score == pytest.approx(theirs["categoryScores"][name], rel=1e-12)
    assert len(list((prepared / "predictions" / "overlays").glob("*.jpg"))) == 4


def test_predictions_are_not_written_into_the_dataset(prepared: Path, trained: Dict[str, Path]) -> None:
    done = program("predict", prepared, trained["stdc1"], "--output", str(prepared / "cityscapes" / "predictions"))
    assert done.returncode == 2 and "only read" in done.stderr and "Traceback" not in done.stderr
