"""Prediction by ONNX Runtime beside Paddle, and from pictures, folders and videos to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, Tuple

import cv2
import numpy as np
import paddle
import pytest
from cityscapesscripts.helpers.labels import trainId2label
from programs import assert_refused, run_program

from stdc.data.dataset import Entry, EvalDataset
from stdc.errors import InputError
from stdc.evaluation import evaluate, metrics
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_segmentor, state_arrays, with_unused_heads
from stdc.prediction import backends
from stdc.prediction.array_predictor import largest_class
from stdc.prediction.onnx_predictor import OnnxPredictor
from stdc.prediction.predict import PaddlePredictor
from stdc.prediction.protocols import FULL_SIZE, Protocol
from stdc.prediction.sources import open_source
from stdc.recipe import Network
from stdc.weights import array_files

needs_onnxruntime = pytest.mark.skipif(
    not backends.has_onnxruntime(), reason="onnx and onnxruntime are not installed in this Python"
)


def trained_arrays(backbone: str, seed: int = 0) -> Dict[str, np.ndarray]:
    """Weights that no initialization would give: every scale, shift and statistic matters, and many classes win."""
    generator = np.random.RandomState(seed)
    model = build_segmentor(backbone)
    arrays = {}
    for name, array in state_arrays(model).items():
        if name.endswith("_variance"):
            made = generator.uniform(0.5, 2.0, array.shape)
        elif array.ndim == 1:
            made = array + 0.2 * generator.randn(*array.shape)
        else:
            made = generator.randn(*array.shape) * np.sqrt(2 / np.prod(array.shape[1:]))
        arrays[name] = made.astype(np.float32)
    load_segmentor(model, arrays, "random")
    model.eval()
    # Over a picture each class is as likely as the others.
    arrays["conv_out.conv_out.bias"] -= model(paddle.to_tensor(noise((64, 128))[None])).numpy().mean(axis=(0, 2, 3))
    return arrays


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    paths = {backbone: folder / f"{backbone}.pdparams" for backbone in ("stdc1", "stdc2")}
    for backbone, path in paths.items():
        array_files.write_pdparams(path, with_unused_heads(trained_arrays(backbone)))
    return paths


def noise(size: Tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).uniform(-1, 1, (3, *size)).astype(np.float32)


def both(weights: Path, network: Network) -> Tuple[PaddlePredictor, OnnxPredictor]:
    source = backends.Source(network, weights, "cpu", 1)
    ours, other = (backends.open_predictor(name, source) for name in ("paddle", "onnxruntime"))
    assert isinstance(ours, PaddlePredictor) and isinstance(other, OnnxPredictor)
    return ours, other


@needs_onnxruntime
@pytest.mark.parametrize("backbone", ["stdc1", "stdc2"])
@pytest.mark.parametrize("pool_counts_padding", [False, True])
def test_onnx_graph_computes_what_paddle_does_at_any_size(
    weights: Dict[str, Path], backbone: str, pool_counts_padding: bool
) -> None:
    ours, other = both(weights[backbone], Network(backbone, pool_counts_padding))
    for size in ((64, 96), (33, 65), (97, 131), (1, 1), (31, 200)):
        image = noise(size)[None]
        expected = ours.logits(ours.load(image)).numpy()
        found = other.logits(other.load(image))
        assert found.shape == expected.shape == (1, 19, *size)
        # Folded batch norms round otherwise; measured: at most 5e-6 of the largest logit.
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max(), size


@needs_onnxruntime
def test_every_protocol_predicts_alike_in_both_backends(weights: Dict[str, Path]) -> None:
    ours, other = both(weights["stdc1"], Network("stdc1"))
    protocols = [
        FULL_SIZE,
        Protocol("seg50", (0.5,), False),
        Protocol("flip", (1.0,), True),
        Protocol("multi", (0.75, 1.0, 1.25), True),
    ]
    image = noise((93, 130))
    predictions = [[one.to_host(ids) for ids in one.predict(image, protocols)] for one in (ours, other)]
    assert len({prediction.tobytes() for prediction in predictions[0]}) == len(protocols)
    for protocol, expected, found in zip(protocols, *predictions):
        assert found.dtype == expected.dtype == np.uint8 and found.shape == (93, 130)
        assert (found != expected).mean() <= 1e-3, protocol.name


def test_banded_argmax_equals_numpys_with_ties_to_the_first() -> None:
    scores = np.random.RandomState(0).randint(0, 4, (19, 70, 33)).astype(np.float32)
    assert np.array_equal(largest_class(scores), scores.argmax(axis=0))


def test_missing_onnxruntime_falls_back_to_paddle_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "has_onnxruntime", lambda: False)
    lines = []
    assert backends.resolve("onnxruntime", "cpu", lines.append) == "paddle"
    assert len(lines) == 1 and "not installed" in lines[0]
    assert backends.other_than("paddle", "cpu") is None


def test_onnxruntime_on_another_device_than_the_cpu_is_refused() -> None:
    with pytest.raises(InputError, match="onnxruntime computes on the CPU, but the device is iluvatar_gpu"):
        backends.resolve("onnxruntime", "iluvatar_gpu", print)


@needs_onnxruntime
def test_damaged_graph_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    with pytest.raises(InputError, match=r"network\.onnx: no such file"):
        OnnxPredictor(path, 1)
    path.write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"network\.onnx: ONNX Runtime cannot read it"):
        OnnxPredictor(path, 1)


def test_counts_on_the_device_are_the_integers_of_the_host() -> None:
    """The device's path, on the CPU: the same kernels."""
    generator = np.random.RandomState(0)
    label = generator.randint(0, 20, (41, 67)).astype(np.uint8)
    label[label == 19] = 255
    prediction = generator.randint(0, 19, label.shape).astype(np.uint8)
    found = evaluate.confusion_on_device(label, paddle.to_tensor(prediction.astype(np.int32)))
    assert found.dtype == np.int64 and np.array_equal(found, metrics.confusion_matrix(label, prediction))
    label[:] = 255
    assert not evaluate.confusion_on_device(label, paddle.to_tensor(prediction.astype(np.int32))).any()


@needs_onnxruntime
def test_comparison_counts_the_pixels_that_differ(weights: Dict[str, Path], tmp_path: Path) -> None:
    paths = tmp_path / "image.png", tmp_path / "label.png"
    cv2.imwrite(str(paths[0]), np.random.RandomState(0).randint(0, 256, (64, 96, 3)).astype(np.uint8))
    cv2.imwrite(str(paths[1]), np.zeros((64, 96), np.uint8))
    dataset = EvalDataset([Entry("ulm_000000_000019", *paths)] * 3, (0.5,) * 3, (0.5,) * 3)
    ours, other = both(weights["stdc1"], Network("stdc1"))
    # A backend that is wrong in one row, to see that what differs is counted.
    right = other.largest
    other.largest = lambda scores: np.concatenate([(right(scores)[:, :1] + 1) % 19, right(scores)[:, 1:]], axis=1)
    comparison = evaluate.Comparison(other, FULL_SIZE)
    evaluate.evaluate(ours, dataset, [FULL_SIZE], watches=[evaluate.Watch(frozenset({0, 2}), comparison.see)])
    assert set(comparison.compared) == {0, 2}
    pixels, differing = comparison.compared[0]
    assert pixels == 64 * 96 and 96 <= differing <= 96 + 3


# ---- pictures, folders, videos


def write_video(path: Path, frames: int, size: Tuple[int, int]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (size[1], size[0]))
    for number in range(frames):
        writer.write(np.full((*size, 3), 20 * number, np.uint8))
    writer.release()


def test_folder_video_and_picture_give_their_pictures_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    (folder / "b").mkdir(parents=True)
    cv2.imwrite(str(folder / "b" / "2.jpg"), np.zeros((5, 7, 3), np.uint8))
    cv2.imwrite(str(folder / "1.png"), np.zeros((4, 6), np.uint8))
    cv2.imwrite(str(folder / "ulm_000000_000019_leftImg8bit.png"), np.zeros((4, 6, 3), np.uint8))
    (folder / "notes.txt").write_text("no picture")
    pictures = [reader() for reader in open_source(folder).readers]
    assert [picture.name for picture in pictures] == ["1", "b/2", "ulm_000000_000019"]
    assert [picture.image.shape for picture in pictures] == [(4, 6, 3), (5, 7, 3), (4, 6, 3)]
    write_video(tmp_path / "film.avi", 3, (32, 48))
    source = open_source(tmp_path / "film.avi")
    pictures = [reader() for reader in source.readers]
    assert source.count == 3 and source.in_order
    assert [picture.name for picture in pictures] == ["film_000000", "film_000001", "film_000002"]
    assert all(picture.image.shape == (32, 48, 3) for picture in pictures)
    assert [round(float(picture.image.mean()), -1) for picture in pictures] == [0, 20, 40]


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(tmp_path / "missing.mp4")
    with pytest.raises(InputError, match="no picture in it"):
        open_source(tmp_path)
    (tmp_path / "film.mp4").write_bytes(b"\0" * 5000)
    with pytest.raises(InputError, match=r"film\.mp4: neither a picture nor a video"):
        open_source(tmp_path / "film.mp4")
    for suffix in ("png", "jpg"):
        cv2.imwrite(str(tmp_path / f"a.{suffix}"), np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.jpg and a\.png would give predictions of one name"):
        open_source(tmp_path)


def test_program_predicts_a_video_without_manifest_and_configuration(weights: Dict[str, Path], tmp_path: Path) -> None:
    write_video(tmp_path / "film.avi", 2, (40, 72))
    output = tmp_path / "out"
    done = run_program(
        "predict",
        *("--weights", weights["stdc2"], "--input", tmp_path / "film.avi", "--output", output, "--threads", 1),
        *("--color", "--overlay", "--side-by-side"),
    )
    assert done.returncode == 0, done.stderr
    assert "2 predictions in" in done.stderr
    names = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    assert names == [
        "colors/color_film_000000.png",
        "colors/color_film_000001.png",
        "film_000000_pred_labelIds.png",
        "film_000001_pred_labelIds.png",
        "overlays/film_000000_overlay.jpg",
        "overlays/film_000001_overlay.jpg",
        "side_by_side/film_000000_side_by_side.jpg",
        "side_by_side/film_000001_side_by_side.jpg",
    ]
    ids = cv2.imread(str(output / names[2]), cv2.IMREAD_UNCHANGED)
    colors = cv2.imread(str(output / names[0]), cv2.IMREAD_COLOR)[..., ::-1]
    assert ids.shape == (40, 72) and ids.dtype == np.uint8
    by_id = {label.id: label.color for label in trainId2label.values()}
    assert all(tuple(colors[row, column]) == by_id[ids[row, column]] for row in (0, 39) for column in (0, 35, 71))
    assert cv2.imread(str(output / names[6])).shape == (40, 144, 3)


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        ([], ["either --input or --dataset"]),
        (["--dataset", "{}"], ["--manifest is needed"]),
        (["--input", "{}/film.mp4"], ["film.mp4: neither a picture nor a video"]),
        (["--input", "{}/half.png"], ["half.png: not a readable image"]),
        (["--input", "{}/right.png", "--weights", "{}/film.mp4"], ["film.mp4"]),
        (["--input", "{}/right.png", "--config", "{}/right.png"], ["right.png: not readable as JSON"]),
    ],
)
def test_program_ends_with_one_line_on_wrong_input(weights, tmp_path, options, fragments):
    (tmp_path / "film.mp4").write_bytes(b"\0" * 5000)
    cv2.imwrite(str(tmp_path / "right.png"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "half.png").write_bytes((tmp_path / "right.png").read_bytes()[:60])
    given = [option.format(tmp_path) for option in options]
    done = run_program("predict", "--weights", weights["stdc1"], "--output", tmp_path / "out", *given)
    assert_refused(done, *fragments)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists()


def test_stage_files_written_by_hand_end_with_exit_code_2(tmp_path: Path, weights: Dict[str, Path]) -> None:
    good = {
        "model": {"backbone": "stdc1"},
        "train": {"preset": "paddleseg"},
        "evaluate": {"protocols": [{"name": "full"}]},
        "data": {"separator": ","},
    }
    from stdc.stages import read_evaluate_stage, read_speed_stage

    path = tmp_path / "stage.json"
    path.write_text(json.dumps(good))
    assert read_evaluate_stage(path).protocols == (Protocol("full", (1.0,), False),)
    damages = [
        ("model", {"backbone": 5}, "model.backbone"),
        ("model", [], "section 'model'"),
        ("model", {"backbone": "stdc1", "pool_counts_padding": "no"}, "model.pool_counts_padding"),
        ("train", {"preset": []}, "train.preset"),
        ("train", {"preset": "authors", "mean": "grey"}, "train.mean"),
        ("train", {"preset": "authors", "deterministic": 1}, "train.deterministic"),
        ("evaluate", {"protocols": {}}, "evaluate.protocols"),
        ("evaluate", {"protocols": [{"name": "a"}], "backend": "torch"}, "evaluate.backend"),
        ("evaluate", {"protocols": [{"name": "a"}], "compared_images": -1}, "evaluate.compared_images"),
        ("data", {"separator": 5}, "data.separator"),
    ]
    for section, value, named in damages:
        path.write_text(json.dumps({**good, section: value}))
        with pytest.raises(InputError, match=rf"stage\.json: .*{named}"):
            read_evaluate_stage(path)
    speed = {"height": 32, "width": 64, "batch": 1, "warmup": 0, "iterations": 2}
    good = {"model": {"backbone": "stdc1"}, "train": {"preset": "paddleseg", "deterministic": False}, "speed": speed}
    path.write_text(json.dumps(good))
    assert read_speed_stage(path).kernels.deterministic is False
    for section, value, named in (
        ("speed", {**speed, "width": "x"}, "speed.width"),
        ("train", {"preset": "paddleseg", "amp": "float8"}, "train.amp"),
    ):
        path.write_text(json.dumps({**good, section: value}))
        with pytest.raises(InputError, match=rf"stage\.json: {named}"):
            read_speed_stage(path)
