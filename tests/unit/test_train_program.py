"""The training program: a short run, and wrong input that is refused before anything is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from programs import assert_refused, run_program
from tiny import make_tiny_dataset

TRAIN = {
    "preset": "paddleseg",
    "iterations": 2,
    "global_batch": 2,
    "crop_height": 32,
    "crop_width": 64,
    "save_interval": 2,
    "keep_checkpoint_max": 1,
    "evaluate": True,
    "eval_interval": 2,
    "log_interval": 1,
    "visualdl": False,
    "prediction_images": 1,
}


GONE = "x_000000_000000"


class Stage:
    """A converted tiny dataset, and the command line of the trainer on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        dataset = make_tiny_dataset(folder / "dataset")
        for program, arguments in (
            ("check_dataset", ["--dataset", dataset, "--output", "manifest.json"]),
            (
                "convert_labels",
                ["--dataset", dataset, "--manifest", "manifest.json", "--output", "labels", "--index", "labels.json"],
            ),
            ("create_lists", ["--manifest", "manifest.json", "--index", "labels.json", "--output", "lists"]),
        ):  # fmt: skip
            placed = [
                folder / word if isinstance(word, str) and not word.startswith("--") else word for word in arguments
            ]
            assert run_program(program, *placed).returncode == 0

    def train(self, out: Path, *extra: object, model: object = None, **train: object):
        config = out / "train.json"
        out.mkdir(exist_ok=True)
        config.write_text(
            json.dumps(
                {
                    "model": model or {"backbone": "stdc1", "pretrained": {"source": None, "sha256": None}},
                    "train": {**TRAIN, **train},
                    "data": {"separator": ","},
                }
            )
        )
        return run_program(
            "train", "--config", config, "--dataset", self.folder / "dataset", "--labels", self.folder / "labels",
            "--manifest", self.folder / "manifest.json", "--index", self.folder / "labels.json",
            "--train-list", self.folder / "lists" / "train.txt",
            "--val-list", self.folder / "lists" / "val.txt", "--seed", 0, "--runs", out / "runs", "--threads", 1,
            "--model", out / "model.pdparams", "--best", out / "best.pdparams", "--history", out / "history.jsonl",
            "--provenance", out / "provenance.json", *extra,
        )  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage(tmp_path_factory.mktemp("train"))


def nothing_written(out: Path) -> bool:
    return not [path.name for path in out.iterdir() if path.name not in ("train.json", "odd.txt")]


def test_short_run_leaves_what_the_contract_names(stage, tmp_path):
    done = stage.train(tmp_path, "--log", tmp_path / "log")
    assert done.returncode == 0, done.stderr
    assert "train: 2/2 | loss" in done.stderr and "ETA" in done.stderr
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    # Each with its time, below the line about the start.
    assert [line.split(" ", 1)[1] for line in lines[1:]] == done.stderr.splitlines()
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [(event["iteration"], "loss" in event, "miou" in event) for event in history] == [
        (1, True, False), (2, True, False), (2, False, True)
    ]  # fmt: skip
    assert {"lr", "images_per_s", "reader_wait_share", "edge_share"} <= set(history[0])
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert {
        "commit",
        "dirty",
        "command",
        "config",
        "seed",
        "manifest_sha256",
        "versions",
        "device",
        "started",
        "finished",
    } <= set(provenance)
    from stdc.nn.segmentor import build_segmentor
    from stdc.weights.array_files import read_pdparams

    arrays = read_pdparams(tmp_path / "model.pdparams")
    assert set(arrays) == set(build_segmentor("stdc1", unused_heads=True).state_dict()), "PaddleSeg's keys, all of them"
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_decoded_frames_on_disk_change_no_bit_of_the_weights(stage, tmp_path):
    cache = tmp_path / "frames"
    cached = ("--frame-cache", cache, "--workers", 1)
    for name, extra in (("decoded", ()), ("cached", cached)):
        done = stage.train(tmp_path / name, *extra, evaluate=False)
        assert done.returncode == 0, done.stderr
    weights = [(tmp_path / name / "model.pdparams").read_bytes() for name in ("decoded", "cached")]
    assert weights[0] == weights[1]
    assert any(path.is_file() for path in cache.rglob("*"))
    (segment,) = json.loads((tmp_path / "cached" / "provenance.json").read_text())["segments"]
    assert segment["hardware"]["frame_cache"] == str(cache)


@pytest.mark.parametrize(
    ("train", "extra", "named"),
    [
        ({"global_batch": 1}, ("--devices", 2), "train.global_batch: 1 for 2 devices; each needs one image at least"),
        ({"global_batch": 3}, ("--devices", 2, "--micro-batch", 1), "hardware.micro_batch: 1 image per forward pass"),
        ({}, ("--micro-batch", 0), "hardware.micro_batch: 0 images"),
        ({"crop_width": 500}, (), "train.crop_width: 500 pixels"),
        ({"preset": "mine"}, (), "train.preset: 'mine'"),
        ({}, ("--device", "tpu"), "argument --device: invalid choice: 'tpu'"),
        ({}, ("--threads", 0), "threads: 0"),
    ],
)
def test_recipe_that_does_not_fit_is_refused(stage, tmp_path, train, extra, named):
    assert_refused(stage.train(tmp_path, *extra, **train), named)
    assert nothing_written(tmp_path)


def test_device_that_is_not_there_is_refused(stage, tmp_path):
    assert_refused(stage.train(tmp_path, "--device", "gpu"), "device: 'gpu' asked for, but paddle", "sees none")
    assert not (tmp_path / "model.pdparams").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "odd.txt"),
        ("one field\n", "odd.txt"),
        ("../../etc/passwd,../../etc/passwd\n", "odd.txt"),
        (f"leftImg8bit/train/x/{GONE}_leftImg8bit.png,gtFine/train/x/{GONE}_gtFine_labelTrainIds.png\n", "odd.txt"),
    ],
    ids=["empty", "one field", "escapes", "names no file"],
)  # fmt: skip
def test_list_edited_into_nonsense_is_refused(stage, tmp_path, text, named):
    odd = tmp_path / "odd.txt"
    odd.write_text(text)
    assert_refused(stage.train(tmp_path, "--train-list", odd), named)
    assert nothing_written(tmp_path)


def test_training_goes_on_from_a_whole_network_of_other_classes(stage, tmp_path):
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import state_arrays
    from stdc.weights.array_files import read_pdparams, write_safetensors

    given = {name: np.full_like(array, 0.125) for name, array in state_arrays(build_segmentor("stdc1")).items()}
    # As fetch_weights leaves it: the layers of other classes are not there.
    start = {name: array for name, array in given.items() if ".conv_out." not in name or "sp8" in name}
    assert len(given) - len(start) == 6
    write_safetensors(tmp_path / "start.safetensors", start)
    # So small a rate that float32 does not feel it.
    record = {"key": "model.init_from", "source": "w.pdparams", "sha256": "ab" * 32, "checksum": "first-seen"}
    (tmp_path / "start.json").write_text(json.dumps(record))
    options = ["--backbone", tmp_path / "start.safetensors", "--start-record", tmp_path / "start.json"]
    result = stage.train(tmp_path, *options, base_lr=1e-30)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "provenance.json").read_text())["start"] == record
    trained = read_pdparams(tmp_path / "model.pdparams")
    for name in ("ffm.conv1.weight", "cp.backbone.features.0.conv.weight", "conv_out.conv._conv.weight"):
        np.testing.assert_array_equal(trained[name], given[name])
    assert np.unique(trained["conv_out.conv_out.weight"]).size > 100


def test_backbone_of_another_network_is_refused(stage, tmp_path):
    from stdc.weights.array_files import write_safetensors

    other = tmp_path.parent / "other.safetensors"
    write_safetensors(other, {"layer.weight": np.zeros((2, 2), np.float32)})
    assert_refused(stage.train(tmp_path, "--backbone", other), "other.safetensors", "layer.weight")
    assert not (tmp_path / "model.pdparams").exists()
