"""Torch checkpoints as files: what is refused, and that nothing in them is ever run."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest

from stdc.errors import InputError
from stdc.weights.torch_files import is_torch_file, read_torch
from stdc.weights.torch_names import backbone_name, convert_backbone, convert_segmentor

FIXTURES = Path(__file__).resolve().parents[1] / "parity" / "authors"

PROGRAM = Path(__file__).resolve().parents[2] / "tools" / "convert_torch_weights.py"

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class Global:
    """Pickled as a call of a global name; the tests' own way of writing what torch writes."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Named:
    """A global of a given module and name, which need not exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Storage:
    """A reference to numbers outside the pickle."""

    def __init__(self, key: str, size: int, kind: str = "FloatStorage", tail: tuple = ()) -> None:
        self.identifier = ("storage", Named("torch", kind), key, "cpu", size, *tail)


class Writer(pickle._Pickler):  # type: ignore[name-defined]  # the pure Python one can be told what to write
    """Writes pickles as torch does, names and references included."""

    def persistent_id(self, value: Any) -> Any:
        return value.identifier if isinstance(value, Storage) else None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, Named):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
            return
        if isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
            return
        super().save(value, save_persistent_id)


class Call:
    """A call of a named function."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.function, self.arguments = Named(module, name), arguments


def tensor(key: str, shape: tuple, size: int, offset: int = 0, strides: Any = None, **storage: Any) -> Call:
    if strides is None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    return Call("torch._utils", "_rebuild_tensor_v2", Storage(key, size, **storage), offset, shape, strides, False, {})


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    Writer(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def write_zip(path: Path, value: Any, data: Dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        for key, content in data.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def write_legacy(path: Path, value: Any, numbers: Dict[str, bytes], counts: Dict[str, int]) -> Path:
    parts: List[bytes] = [pickled(MAGIC), pickled(PROTOCOL), pickled({"little_endian": True}), pickled(value)]
    parts.append(pickled(list(numbers)))
    for key, content in numbers.items():
        parts.append(struct.pack("<q", counts[key]) + content)
    path.write_bytes(b"".join(parts))
    return path


SIX = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize("legacy", [False, True])
def test_views_of_one_storage_are_told_apart(tmp_path: Path, legacy: bool) -> None:
    state = collections.OrderedDict(
        whole=tensor("0", (2, 3), 6), turned=tensor("0", (3, 2), 6, strides=(1, 3)), last=tensor("0", (2,), 6, offset=4)
    )
    path = tmp_path / "views.pth"
    if legacy:
        write_legacy(path, state, {"0": SIX.tobytes()}, {"0": 6})
    else:
        write_zip(path, state, {"0": SIX.tobytes()})
    arrays = read_torch(path)
    assert is_torch_file(path)
    np.testing.assert_array_equal(arrays["whole"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(arrays["turned"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(arrays["last"], [4, 5])


def test_a_wrapped_state_dict_of_data_parallel_training_is_unwrapped(tmp_path: Path) -> None:
    state = {"module.features.0.bn.running_mean": tensor("0", (6,), 6)}
    checkpoint = {"epoch": 3, "state_dict": state, "note": "best"}
    arrays = read_torch(write_zip(tmp_path / "wrapped.pth", checkpoint, {"0": SIX.tobytes()}))
    assert list(arrays) == ["features.0.bn.running_mean"]


def test_half_precision_becomes_float32_under_our_names(tmp_path: Path) -> None:
    state = {"features.0.bn.running_var": tensor("0", (6,), 6, kind="HalfStorage")}
    arrays = read_torch(write_zip(tmp_path / "half.pth", state, {"0": SIX.astype("<f2").tobytes()}))
    converted = convert_backbone(arrays)
    assert converted["features.0.bn._variance"].dtype == np.float32
    np.testing.assert_array_equal(converted["features.0.bn._variance"], SIX)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("torch", "load")]
)
def test_a_checkpoint_that_runs_something_is_refused_and_nothing_runs(
    tmp_path: Path, legacy: bool, module: str, name: str
) -> None:
    witness = tmp_path / "ran"
    state = {"weight": tensor("0", (6,), 6), "extra": Call(module, name, f"touch {witness}")}
    path = tmp_path / "hostile.pth"
    if legacy:
        write_legacy(path, state, {"0": SIX.tobytes()}, {"0": 6})
    else:
        write_zip(path, state, {"0": SIX.tobytes()})
    with pytest.raises(InputError, match=rf"hostile\.pth: refused: the file asks to run {module}\.{name}"):
        read_torch(path)
    assert not witness.exists()


def test_the_hostile_file_of_these_tests_would_run_under_the_standard_unpickler(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    pickle.loads(pickle.dumps(Global(os.mkdir, str(witness))))
    assert witness.exists()


@pytest.mark.parametrize(
    ("what", "made"),
    [
        ("past the end", tensor("0", (7,), 6)),
        ("offset past the end", tensor("0", (2,), 6, offset=5)),
        ("negative offset", tensor("0", (2,), 6, offset=-1)),
        ("negative stride", tensor("0", (2,), 6, offset=3, strides=(-1,))),
        ("a billion copies of one number", tensor("0", (10**9,), 6, strides=(0,))),
        ("strides of another rank", tensor("0", (2, 3), 6, strides=(1,))),
        ("a size that is no number", tensor("0", ("x",), 6, strides=(1,))),
        ("a view of a view", tensor("0", (6,), 6, tail=(("1", 0, 6),))),
        ("a storage larger than its file", tensor("0", (6,), 600)),
        ("a kind of number that does not exist", tensor("0", (6,), 6, kind="QStorage")),
        ("numbers that are not there", tensor("nowhere", (6,), 6)),
    ],
)
def test_tensors_that_lie_about_their_numbers_are_refused(tmp_path: Path, what: str, made: Any) -> None:
    with pytest.raises(InputError, match=r"lie\.pth: "):
        read_torch(write_zip(tmp_path / "lie.pth", {"weight": made}, {"0": SIX.tobytes()}))


def test_an_entry_that_unpacks_to_more_than_promised_is_refused_unread(tmp_path: Path) -> None:
    bomb = {"0": bytes(50_000_000)}
    path = write_zip(tmp_path / "bomb.pth", {"weight": tensor("0", (6,), 6)}, bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="50000000 bytes, 24 expected"):
        read_torch(path)


def test_an_archive_that_names_a_place_before_its_start_is_damaged(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "place.pth", {"weight": tensor("0", (6,), 6)}, {"0": SIX.tobytes()})
    data = bytearray(path.read_bytes())
    # The end record says where the table of contents starts; a larger number moves all entries before the file.
    end = data.index(b"PK\x05\x06")
    (start,) = struct.unpack("<I", data[end + 16 : end + 20])
    data[end + 16 : end + 20] = struct.pack("<I", start + 5000)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"place\.pth: not a readable torch checkpoint"):
        read_torch(path)


def test_a_name_of_control_characters_stays_short(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "name.pth", {"weight": Call("torch", "\x07" * 5000, 1)}, {})
    with pytest.raises(InputError, match="asks to run") as caught:
        read_torch(path)
    assert len(str(caught.value).replace(str(path), "")) < 400 and str(caught.value).isprintable()


def test_legacy_numbers_of_another_count_are_refused(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "count.pth", {"w": tensor("0", (6,), 6)}, {"0": SIX.tobytes()}, {"0": 2**40})
    with pytest.raises(InputError, match=r"count\.pth: "):
        read_torch(path)


@pytest.mark.parametrize("file", ["small_segmentor.pth", "small_segmentor_torch1.pth"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_one_clear_line(tmp_path: Path, file: str, share: float) -> None:
    data = (FIXTURES / file).read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"cut\.pth: ") as caught:
        read_torch(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00."])
def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    assert not is_torch_file(path)
    with pytest.raises(InputError, match=r"other\.pth: "):
        read_torch(path)
    with pytest.raises(InputError, match="no such file"):
        read_torch(tmp_path / "absent.pth")


def test_a_checkpoint_without_tensors_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no state dict"):
        read_torch(write_zip(tmp_path / "empty.pth", {"epoch": 3}, {}))


def test_names_of_a_decoder_block_follow_paddleseg() -> None:
    two = np.array([-2.0, 3.0], np.float32)
    theirs = {
        "conv_out16.conv.conv.weight": np.ones((2, 4, 3, 3), np.float32),
        "conv_out16.conv.bn.weight": two,
        "conv_out16.conv.bn.bias": two,
        "conv_out16.conv.bn.running_mean": two,
        "conv_out16.conv.bn.running_var": np.abs(two),
        "conv_out16.conv.bn.num_batches_tracked": np.array(7),
        "conv_out16.conv_out.weight": np.ones((19, 2, 1, 1), np.float32),
    }
    ours = convert_segmentor(theirs)
    assert sorted(ours) == [
        "conv_out8.conv._batch_norm._mean",
        "conv_out8.conv._batch_norm._variance",
        "conv_out8.conv._batch_norm.bias",
        "conv_out8.conv._batch_norm.weight",
        "conv_out8.conv._conv.bias",
        "conv_out8.conv._conv.weight",
        "conv_out8.conv_out.bias",
        "conv_out8.conv_out.weight",
    ]
    np.testing.assert_allclose(ours["conv_out8.conv._batch_norm.weight"], [2.00001, 3.00001], rtol=1e-7)
    np.testing.assert_array_equal(ours["conv_out8.conv._batch_norm.bias"], two)
    assert not ours["conv_out8.conv_out.bias"].any()
    plain = convert_segmentor(theirs, inplace_abn=False)
    np.testing.assert_array_equal(plain["conv_out8.conv._batch_norm.weight"], two)


def test_backbone_is_known_by_its_depth() -> None:
    one = np.zeros(1)
    assert backbone_name({"features.7.conv_list.0.bn.bias": one, "features.0.conv.weight": one}) == "stdc1"
    assert backbone_name({"cp.backbone.features.13.conv_list.0.bn.bias": one}) == "stdc2"
    assert backbone_name({"layer4.conv.weight": one}) is None


def test_program_converts_a_full_size_backbone(tmp_path: Path) -> None:
    pytest.importorskip("paddle")
    from stdc.nn.segmentor import build_segmentor
    from stdc.weights.array_files import read_pdparams

    state = build_segmentor("stdc1").cp.backbone.state_dict()
    leaves = {"_mean": "running_mean", "_variance": "running_var"}
    tensors, data = {}, {}
    for index, (name, value) in enumerate(state.items()):
        unit, _, leaf = name.rpartition(".")
        array = np.full(value.shape, index, np.float32)
        tensors[f"module.{unit}.{leaves.get(leaf, leaf)}"] = tensor(str(index), array.shape, array.size)
        data[str(index)] = array.tobytes()
    source = write_zip(tmp_path / "STDCNet813M_73.91.tar", {"state_dict": tensors}, data)
    target = tmp_path / "backbone.pdparams"
    done = run_program(source, target)
    assert done.returncode == 0, done.stderr
    assert "stdc1 ImageNet backbone" in done.stderr
    read = read_pdparams(target)
    assert list(read) == sorted(state)
    for index, name in enumerate(state):
        assert (read[name] == index).all()


def run_program(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    # A process of its own: the program sets threads, which has to be done before Paddle is imported.
    command = [sys.executable, "-W", "ignore", str(PROGRAM), "--input", str(source), "--output", str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("file", "suffix", "message"),
    [
        ("small_segmentor.pth", ".pdparams", "does not fit this network"),
        ("small_segmentor.pth", ".pth", "weights end in .pdparams or .safetensors"),
        ("oracle.py", ".pdparams", "not a readable torch checkpoint"),
    ],
)
def test_program_refuses_bad_input_in_one_line_and_writes_nothing(
    tmp_path: Path, file: str, suffix: str, message: str
) -> None:
    done = run_program(FIXTURES / file, tmp_path / f"out{suffix}")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
