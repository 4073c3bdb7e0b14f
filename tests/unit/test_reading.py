"""Weights in every format they are published in come out under our names; anything else is refused by what it is."""

from __future__ import annotations

import gzip
import io
import re
import struct
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from stdc.arrays import Arrays  # noqa: E402
from stdc.errors import InputError  # noqa: E402
from stdc.nn.segmentor import build_segmentor  # noqa: E402
from stdc.nn.state import state_arrays  # noqa: E402
from stdc.weights import array_files  # noqa: E402
from stdc.weights.reading import read_weights  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))

from test_torch_files import Call, Named, tensor, write_legacy, write_zip  # noqa: E402

#: By hand from mmsegmentation's modules: its name, the shape, and our name. Every kind of layer once.
STAGE, OURS = "backbone.backbone.stages", "cp.backbone.features"
MMSEG: Tuple[Tuple[str, Tuple[int, ...], str], ...] = (
    (f"{STAGE}.0.conv.weight", (32, 3, 3, 3), f"{OURS}.0.conv.weight"),
    (f"{STAGE}.1.bn.running_var", (64,), f"{OURS}.1.bn._variance"),
    (f"{STAGE}.2.0.layers.0.conv.weight", (128, 64, 1, 1), f"{OURS}.2.conv_list.0.conv.weight"),
    (f"{STAGE}.2.0.downsample.conv.weight", (128, 1, 3, 3), f"{OURS}.2.avd_layer.0.weight"),
    (f"{STAGE}.2.0.downsample.bn.running_mean", (128,), f"{OURS}.2.avd_layer.1._mean"),
    (f"{STAGE}.2.1.layers.3.bn.bias", (32,), f"{OURS}.3.conv_list.3.bn.bias"),
    (f"{STAGE}.3.0.layers.1.conv.weight", (128, 256, 3, 3), f"{OURS}.4.conv_list.1.conv.weight"),
    (f"{STAGE}.3.1.layers.0.bn.bias", (256,), f"{OURS}.5.conv_list.0.bn.bias"),
    (f"{STAGE}.4.1.layers.2.bn.weight", (128,), f"{OURS}.7.conv_list.2.bn.weight"),
    ("backbone.arms.0.conv_layer.conv.weight", (128, 1024, 3, 3), "cp.arm32.conv._conv.weight"),
    ("backbone.arms.0.conv_layer.bn.weight", (128,), "cp.arm32.conv._batch_norm.weight"),
    ("backbone.arms.0.conv_layer.bn.running_mean", (128,), "cp.arm32.conv._batch_norm._mean"),
    ("backbone.arms.1.atten_conv_layer.1.conv.weight", (128, 128, 1, 1), "cp.arm16.conv_atten.weight"),
    ("backbone.arms.1.atten_conv_layer.1.bn.running_var", (128,), "cp.arm16.bn_atten._variance"),
    ("backbone.convs.0.conv.weight", (128, 128, 3, 3), "cp.conv_head32._conv.weight"),
    ("backbone.convs.0.bn.running_mean", (128,), "cp.conv_head32._batch_norm._mean"),
    ("backbone.convs.1.conv.weight", (128, 128, 3, 3), "cp.conv_head16._conv.weight"),
    ("backbone.convs.1.bn.running_mean", (128,), "cp.conv_head16._batch_norm._mean"),
    ("backbone.conv_avg.conv.weight", (128, 1024, 1, 1), "cp.conv_avg._conv.weight"),
    ("backbone.conv_avg.bn.running_mean", (128,), "cp.conv_avg._batch_norm._mean"),
    ("backbone.ffm.conv0.conv.weight", (256, 384, 1, 1), "ffm.convblk._conv.weight"),
    ("backbone.ffm.conv0.bn.running_mean", (256,), "ffm.convblk._batch_norm._mean"),
    ("backbone.ffm.attention.1.conv.weight", (64, 256, 1, 1), "ffm.conv1.weight"),
    ("backbone.ffm.attention.2.conv.weight", (256, 64, 1, 1), "ffm.conv2.weight"),
    ("decode_head.convs.0.conv.weight", (256, 256, 3, 3), "conv_out.conv._conv.weight"),
    ("decode_head.convs.0.bn.running_mean", (256,), "conv_out.conv._batch_norm._mean"),
    ("decode_head.conv_seg.weight", (19, 256, 1, 1), "conv_out.conv_out.weight"),
    ("decode_head.conv_seg.bias", (19,), "conv_out.conv_out.bias"),
    ("auxiliary_head.0.conv_seg.weight", (19, 64, 1, 1), "conv_out8.conv_out.weight"),
    ("auxiliary_head.1.conv_seg.weight", (19, 64, 1, 1), "conv_out16.conv_out.weight"),
    ("auxiliary_head.2.convs.0.conv.weight", (64, 256, 3, 3), "conv_out_sp8.conv._conv.weight"),
    ("auxiliary_head.2.convs.0.bn.running_mean", (64,), "conv_out_sp8.conv._batch_norm._mean"),
)  # fmt: skip


def write_state(path: Path, arrays: Arrays, wrap: Any = lambda state: state) -> Path:
    """A checkpoint as torch writes it."""
    state = {name: tensor(str(n), value.shape, value.size) for n, (name, value) in enumerate(arrays.items())}
    return write_zip(path, wrap(state), {str(n): value.tobytes() for n, value in enumerate(arrays.values())})


def torch_named(arrays: Arrays) -> Arrays:
    """Our names turned into torch's by hand; the backbone's blocks are called alike."""
    theirs = {"._mean": ".running_mean", "._variance": ".running_var"}
    return {re.sub(r"\._(mean|variance)$", lambda leaf: theirs[leaf.group()], name): arrays[name] for name in arrays}


@pytest.fixture(scope="module")
def backbone() -> Arrays:
    paddle.seed(1)
    return state_arrays(build_segmentor("stdc1").cp.backbone)


def equal(left: Arrays, right: Arrays) -> bool:
    return set(left) == set(right) and all(np.array_equal(left[name], right[name]) for name in left)


def test_a_segmentor_of_mmsegmentation_is_read_under_our_names(tmp_path: Path) -> None:
    arrays = {
        name: np.full(shape, number + 1, np.float32) * (-1 if name.endswith("bn.weight") else 1)
        for number, (name, shape, _) in enumerate(MMSEG)
    }
    no_edge, edge = np.full((64, 1, 1), 7, np.float32), np.full((64, 1, 1), 8, np.float32)
    arrays["auxiliary_head.2.conv_seg.weight"] = np.stack([no_edge, edge])
    read = read_weights(write_state(tmp_path / "mmseg.pth", arrays, lambda state: {"meta": {}, "state_dict": state}))
    network = state_arrays(build_segmentor("stdc1"))
    for number, (name, _, ours) in enumerate(MMSEG):
        expected = arrays[name]
        np.testing.assert_array_equal(read[ours], expected, err_msg=name)
        assert read[ours].shape == network[ours].shape, (number, ours)
    # Of no edge and of an edge: ours has the second alone.
    assert (
        read["conv_out_sp8.conv_out.weight"].shape == (1, 64, 1, 1)
        and (read["conv_out_sp8.conv_out.weight"] == 8).all()
    )
    assert not read["cp.arm32.conv._conv.bias"].any()
    assert set(read) <= set(network)


def test_the_attention_modules_of_an_older_mmsegmentation_are_told_by_their_channels(tmp_path: Path) -> None:
    arrays = {
        "backbone.backbone.stages.0.bn.running_mean": np.zeros(32, np.float32),
        "backbone.arms.0.conv_layer.conv.weight": np.zeros((128, 512, 3, 3), np.float32),
        "backbone.convs.0.conv.weight": np.ones((128, 128, 3, 3), np.float32),
    }
    read = read_weights(write_state(tmp_path / "old.pth", arrays))
    assert {"cp.arm16.conv.conv.weight", "cp.conv_head16.conv.weight"} <= set(read)


@pytest.mark.parametrize("name", ["stdc1", "stdc2"])
def test_a_backbone_of_mmsegmentation_fills_ours(tmp_path: Path, name: str) -> None:
    depths = {"stdc1": (2, 2, 2), "stdc2": (4, 5, 3)}[name]
    order = ["0", "1", *(f"{stage}.{module}" for stage, depth in enumerate(depths, 2) for module in range(depth))]
    ours = state_arrays(build_segmentor(name).cp.backbone)
    theirs: Dict[str, np.ndarray] = {}
    for key, value in torch_named(ours).items():
        _, index, rest = key.split(".", 2)
        rest = (
            rest.replace("conv_list.", "layers.")
            .replace("avd_layer.0", "downsample.conv")
            .replace("avd_layer.1", "downsample.bn")
        )
        theirs[f"stages.{order[int(index)]}.{rest}"] = value
    assert equal(read_weights(write_state(tmp_path / "stdc_20220308.pth", theirs)), ours)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "net", "notes"])
def test_a_state_dict_is_found_wherever_training_code_keeps_it(tmp_path: Path, backbone: Arrays, wrap: str) -> None:
    small = {name: value for name, value in torch_named(backbone).items() if name.startswith("features.0.")}

    def wrapped(state: Any) -> Any:
        if wrap == "notes":
            history = Call("numpy.core.multiarray", "_reconstruct", Named("numpy", "ndarray"), (0,), b"b")
            return {"model": state, "args": Call("argparse", "Namespace"), "history": history}
        return state if wrap == "plain" else {wrap: state, "epoch": 3}

    read = read_weights(write_state(tmp_path / "w.pth", small, wrapped))
    assert equal(read, {name: value for name, value in backbone.items() if name.startswith("features.0.")})


@pytest.mark.parametrize("legacy", [False, True])
def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path, legacy: bool) -> None:
    values = np.array([1.0, -2.5, 0.0, 3.0e38], np.float32)
    half = (values.view("<u4") >> 16).astype("<u2")
    state = {"features.0.bn.running_mean": tensor("0", (4,), 4, kind="BFloat16Storage")}
    path = tmp_path / "bf16.pth"
    if legacy:
        write_legacy(path, state, {"0": half.tobytes()}, {"0": 4})
    else:
        write_zip(path, state, {"0": half.tobytes()})
    expected = (half.astype("<u4") << 16).view("<f4")
    np.testing.assert_array_equal(read_weights(path)["features.0.bn._mean"], expected)
    assert abs(expected[3] / values[3] - 1) < 2**-7


@pytest.mark.parametrize("names", ["ours", "torch"])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_safetensors_are_known_by_their_content_with_either_names(
    tmp_path: Path, backbone: Arrays, names: str, suffix: str
) -> None:
    array_files.write_safetensors(tmp_path / f"w{suffix}", torch_named(backbone) if names == "torch" else backbone)
    assert equal(read_weights(tmp_path / f"w{suffix}"), backbone)


def packed(path: Path, *members: Tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_a_bit_that_fell_over_inside_a_packed_archive_is_found_by_its_checksum(tmp_path: Path) -> None:
    array_files.write_pdparams(tmp_path / "w.pdparams", {"features.weight": np.ones(3, np.float32)})
    path = tmp_path / "w.tar.gz"
    with gzip.open(path, "wb", compresslevel=0) as unpacked, tarfile.open(fileobj=unpacked, mode="w") as archive:
        archive.add(tmp_path / "w.pdparams", "w.pdparams")
    data = (tmp_path / "w.tar.gz").read_bytes()
    assert list(read_weights(tmp_path / "w.tar.gz")) == ["features.weight"]
    # In the name of an array, where the tar has no checksum of its own.
    (tmp_path / "w.tar.gz").write_bytes(data.replace(b"features.weight", b"features.weighu", 1))
    with pytest.raises(InputError, match=r"w\.tar\.gz: not a readable archive \(CRC"):
        read_weights(tmp_path / "w.tar.gz")


@pytest.mark.parametrize("name", ["STDCNet1/model.pdparams", f"{'long/' * 40}model.pdparams"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_the_weights_inside_a_tar_are_read_whatever_else_is_in_it(tmp_path: Path, name: str, form: int) -> None:
    arrays = {"features.0.conv.weight": np.arange(864, dtype=np.float32).reshape(32, 3, 3, 3)}
    array_files.write_pdparams(tmp_path / "m.pdparams", arrays)
    data = (tmp_path / "m.pdparams").read_bytes()
    path = tmp_path / "w.tar.gz"
    with tarfile.open(path, "w:gz", format=form) as archive:
        mac = f"{name.rpartition('/')[0]}/._model.pdparams"
        for one, content in (("STDCNet1/README.md", b"x" * 1000), (mac, b"attributes"), (name, data)):
            info = tarfile.TarInfo(one)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert equal(read_weights(path), arrays)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"w\.tar\.gz: not a readable archive"):
        read_weights(path)


def test_files_that_are_something_else_are_called_by_name(tmp_path: Path) -> None:
    (tmp_path / "best_model").mkdir()
    (tmp_path / "best_model" / "model.pdparams").write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "several.zip", "w") as archive:
        archive.writestr("model.pdparams", b"x")
    packed(tmp_path / "none.tar.gz", ("log.txt", b"x"))
    write_zip(tmp_path / "optimizer.pth", {"state": {}, "param_groups": []}, {})
    array_files.write_pdparams(tmp_path / "model.pdopt", {"conv_0.w_0_velocity_0": np.zeros(2, np.float32)})
    write_zip(tmp_path / "whole.pth", Call("models.stdc", "Network"), {})
    for name, content, said in (
        ("lfs.pdparams", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        ("network.onnx", b"\x08\x07\x12\x04stdc", "an exported network, read by predict alone"),
        ("network.pdiparams", bytes(64), "give the weights that it was exported from"),
        ("page.pdparams", b"\n<!DOCTYPE html><html>Sign in</html>", "a web page, not weights"),
        ("denied.pdparams", b'<?xml version="1.0"?><Error>', "an answer of a file server"),
        ("empty.pdparams", b"", "an empty file"),
        ("keras.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        ("best_model", None, "a folder; give the file in it, such as .*best_model/model.pdparams"),
        ("several.zip", None, r"a zip archive, but none of torch's \(it holds model.pdparams\); unpack it first"),
        ("none.tar.gz", None, r"one \.pdparams file is expected in it, found 0 beside log\.txt"),
        ("optimizer.pth", None, "holds no state dict but the state of an optimizer"),
        ("model.pdopt", None, r"the state of an optimizer \(it holds conv_0\.w_0_velocity_0\), not weights"),
        ("whole.pth", None, r"asks to run models\.stdc\.Network: a whole pickled model, .*save the weights alone"),
        ("gone.pdparams", None, "no such file"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: (refused: )?.*{said}") as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("features.0.conv.weight", float("nan"), "1 of 864 numbers in features.0.conv.weight are not finite"),
        ("features.0.conv.weight", float("-inf"), "1 of 864 numbers in features.0.conv.weight are not finite"),
        ("features.0.bn._variance", -0.5, r"features\.0\.bn\._variance holds a negative variance \(-0\.5\)"),
    ],
)
@pytest.mark.parametrize("kind", ["pdparams", "safetensors", "torch"])
def test_numbers_that_no_network_has_are_damage(
    tmp_path: Path, backbone: Arrays, kind: str, name: str, value: float, said: str
) -> None:
    arrays = {key: array.copy() for key, array in backbone.items() if key.startswith("features.0.")}
    arrays[name].flat[0] = value
    path = tmp_path / f"w.{kind}"
    if kind == "torch":
        write_state(path, torch_named(arrays))
        said = said.replace("_variance", "running_var")
    else:
        (array_files.write_pdparams if kind == "pdparams" else array_files.write_safetensors)(path, arrays)
    with pytest.raises(InputError, match=rf"w\.{kind}: damaged: {said}"):
        read_weights(path)


def test_a_safetensors_header_of_megabytes_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'.ljust(5 << 20)
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match="a header beyond 4 MB"):
        read_weights(tmp_path / "w.safetensors")
