"""Exported networks: what they compute, what they say about themselves, and that a wrong one is not left."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import trainId2label
from programs import assert_refused, run_program
from test_prediction import needs_onnxruntime, trained_arrays

from stdc.errors import InputError, RunError
from stdc.files import sha256_file
from stdc.nn.segmentor import build_segmentor
from stdc.nn.state import load_segmentor
from stdc.prediction import export as exporting
from stdc.prediction.trained import Wish, open_trained
from stdc.recipe import Network
from stdc.weights import array_files


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `weights.safetensors`, `evaluate.json`, and the export of both in `exported/`."""
    folder = tmp_path_factory.mktemp("export")
    array_files.write_safetensors(folder / "weights.safetensors", trained_arrays("stdc1"))
    stage = {
        "model": {"backbone": "stdc1"},
        "train": {"preset": "authors"},
        "evaluate": {"protocols": [{"name": "full"}]},
        "data": {"separator": ","},
    }
    (folder / "evaluate.json").write_text(json.dumps(stage))
    done = run_program(
        "export",
        *("--config", folder / "evaluate.json", "--weights", folder / "weights.safetensors"),
        *("--output", folder / "exported", "--threads", 1),
    )
    assert done.returncode == 0, done.stderr
    return folder


@needs_onnxruntime
def test_export_tells_what_a_program_needs_and_what_the_check_found(exported: Path) -> None:
    description = json.loads((exported / "exported" / "export.json").read_text())
    assert description["weights_sha256"] == sha256_file(exported / "weights.safetensors")
    assert description["mean"] == [0.485, 0.456, 0.406] and description["std"] == [0.229, 0.224, 0.225]
    assert len(description["classes"]) == 19
    for entry in description["classes"]:
        label = trainId2label[entry["train_id"]]
        assert (entry["label_id"], entry["name"], tuple(entry["color"])) == (label.id, label.name, label.color)
    for name in ("paddle", "onnx"):
        check = description["checks"][name]
        assert check["pixels"] == 512 * 1024 + 187 * 331
        assert check["largest_difference"] <= 2e-5 and check["differing_pixels"] <= 5
    found = {path.name for path in (exported / "exported").iterdir()}
    assert found == {"export.json", *description["files"]}
    assert {"network.onnx", "network.pdiparams"} < found
    assert all(sha256_file(exported / "exported" / name) == digest for name, digest in description["files"].items())
    assert not [path for path in exported.iterdir() if path.name.startswith(".tmp")]


@needs_onnxruntime
def test_onnx_file_is_valid_and_carries_the_description(exported: Path) -> None:
    import onnx

    model = onnx.load(str(exported / "exported" / "network.onnx"))
    onnx.checker.check_model(model, full_check=True)
    metadata = {item.key: item.value for item in model.metadata_props}
    assert metadata["weights_sha256"] == sha256_file(exported / "weights.safetensors")
    assert json.loads(metadata["mean"]) == [0.485, 0.456, 0.406]
    assert json.loads(metadata["classes"])[18]["name"] == "bicycle"
    assert str(exported).encode() not in (exported / "exported" / "network.onnx").read_bytes()


@needs_onnxruntime
def test_exported_network_predicts_what_the_weights_do(exported: Path, tmp_path: Path) -> None:
    """In both formats, and without being told mean and deviation."""
    picture = np.random.RandomState(1).randint(0, 256, (64, 96, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    predictions = []
    for number, source in enumerate(("weights.safetensors", "exported/network.onnx", "exported/network.pdiparams")):
        more = ("--preset", "authors") if number == 0 else ()
        output = tmp_path / str(number)
        options = ("--weights", exported / source, "--input", tmp_path / "a.png", "--output", output, "--threads", 1)
        done = run_program("predict", *options, *more)
        assert done.returncode == 0, done.stderr
        predictions.append(cv2.imread(str(output / "a_pred_labelIds.png"), cv2.IMREAD_UNCHANGED))
    assert len(np.unique(predictions[0])) > 3
    for other in predictions[1:]:
        assert (predictions[0] != other).mean() <= 1e-3


def copied(exported: Path, folder: Path) -> Path:
    """The export without its ONNX file, to be spoiled; returns its program."""
    shutil.copytree(exported / "exported", folder)
    (folder / "network.onnx").unlink(missing_ok=True)
    return next(path for path in (folder / "network.json", folder / "network.pdmodel") if path.is_file())


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def described(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "options", "words"),
    [
        (lambda program: program.with_suffix(".pdiparams").unlink(), (), "no network.pdiparams in"),
        (lambda program: program.unlink(), (), "no network"),
        (lambda program: truncated(program.with_suffix(".pdiparams")), (), "not the file that"),
        (truncated, (), "not the file that"),
        (lambda program: program.with_name("export.json").unlink(), (), "no export.json in"),
        (lambda program: truncated(program.with_name("export.json")), (), "export.json: "),
        (lambda program: program.with_name("export.json").write_text("[]"), (), "mean, std and the 19 classes"),
        (
            lambda program: described(program.with_name("export.json"), std=[0, 1, 1]),
            (),
            "mean, std and the 19 classes",
        ),
        (lambda program: described(program.with_name("export.json"), classes=[]), (), "mean, std and the 19 classes"),
        (lambda program: described(program.with_name("export.json"), files=None), (), "not the file that"),
        (lambda program: None, ("--backend", "onnxruntime"), "computed by paddle, not by onnxruntime"),
        (lambda program: None, ("--device", "gpu"), "computes on the CPU, but the device is gpu"),
    ],
)
def test_a_network_in_paddles_format_that_is_not_whole_is_refused(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, options: Any, words: str
) -> None:
    program = copied(exported, tmp_path / "exported")
    spoil(program)
    arguments = dict(zip(options[::2], options[1::2]))
    wish = Wish(program, None, "paddleseg", arguments.get("--backend"), arguments.get("--device", "cpu"), 1)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        open_trained(wish, lambda line: None)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_network_that_computes_something_else_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_segmentor("stdc1")
    load_segmentor(model, trained_arrays("stdc1"), "random")
    model.eval()
    trained = exporting.Trained(model, Network("stdc1"), (0.5,) * 3, (0.5,) * 3, "ab" * 32)

    def wrong_in_one_row(image: np.ndarray) -> np.ndarray:
        logits = model(exporting.paddle.to_tensor(image)).numpy()
        logits[:, :, 0] *= 1.01
        return logits

    check = exporting.compare(trained, wrong_in_one_row, [(64, 96)])
    assert check.largest_difference > 1e-4
    nothing = exporting.compare(trained, lambda image: np.full((1, 19, *image.shape[2:]), np.nan), [(64, 96)])
    assert nothing.largest_difference == float("inf")
    monkeypatch.setattr(exporting, "_export_paddle", lambda *_: check)
    with pytest.raises(RunError, match="nothing is written"):
        exporting.export(trained, tmp_path / "out", 1, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_network_are_refused(exported: Path, tmp_path: Path) -> None:
    stage = json.loads((exported / "evaluate.json").read_text())
    stage["model"]["backbone"] = "stdc2"
    (tmp_path / "evaluate.json").write_text(json.dumps(stage))
    done = run_program(
        "export",
        *("--config", tmp_path / "evaluate.json", "--weights", exported / "weights.safetensors"),
        *("--output", tmp_path / "out"),
    )
    assert_refused(done, "weights.safetensors", "model.backbone")
    assert not (tmp_path / "out").exists()
