"""Weights files: exchange with Paddle, determinism, and nothing executed."""

import os
import pickle

import numpy as np
import pytest

from stdc.errors import InputError
from stdc.weights import array_files

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "scalar": np.float64(2.5) * np.ones(()),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">i4"),
}


def same(left, right):
    return set(left) == set(right) and all(
        np.array_equal(left[name], right[name]) and left[name].shape == right[name].shape for name in left
    )


def test_pdparams_comes_back_and_equal_arrays_give_equal_bytes(tmp_path):
    array_files.write_pdparams(tmp_path / "a.pdparams", ARRAYS)
    array_files.write_pdparams(tmp_path / "b.pdparams", dict(reversed(list(ARRAYS.items()))))
    assert same(array_files.read_pdparams(tmp_path / "a.pdparams"), ARRAYS)
    assert (tmp_path / "a.pdparams").read_bytes() == (tmp_path / "b.pdparams").read_bytes()


def test_paddle_reads_what_we_write_and_we_read_what_paddle_writes(tmp_path):
    paddle = pytest.importorskip("paddle")
    array_files.write_pdparams(tmp_path / "ours.pdparams", ARRAYS)
    assert same(paddle.load(str(tmp_path / "ours.pdparams"), return_numpy=True), ARRAYS)
    layer = paddle.nn.Linear(3, 4)
    state = {name: value.numpy() for name, value in layer.state_dict().items()}
    paddle.save(layer.state_dict(), str(tmp_path / "theirs.pdparams"))
    assert same(array_files.read_pdparams(tmp_path / "theirs.pdparams"), state)
    for protocol in (2, 3, 4):
        # A plain dict of tensors is stored in another form than a state dict.
        paddle.save(dict(layer.state_dict()), str(tmp_path / "plain.pdparams"), protocol=protocol)
        assert same(array_files.read_pdparams(tmp_path / "plain.pdparams"), state)


def test_file_names_only_what_old_numpy_knows(tmp_path):
    array_files.write_pdparams(tmp_path / "a.pdparams", ARRAYS)
    data = (tmp_path / "a.pdparams").read_bytes()
    assert b"numpy.core.multiarray" in data and b"numpy._core" not in data


class Run:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class Allocate:
    def __reduce__(self):
        return np.ndarray, ((10**6, 10**6),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickle_that_runs_a_command_is_refused_and_runs_nothing(tmp_path, protocol):
    marker = tmp_path / "ran"
    path = tmp_path / "hostile.pdparams"
    path.write_bytes(pickle.dumps({"w": Run(marker)}, protocol))
    with pytest.raises(InputError, match=r"hostile\.pdparams: refused: the file asks to run"):
        array_files.read_pdparams(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "value",
    [Allocate(), np.array([1, "a"], dtype=object), {"nested": {"w": 1}}, "text", 3],
    ids=["allocates", "objects", "nested", "text", "number"],
)
def test_anything_but_arrays_is_refused(tmp_path, value):
    path = tmp_path / "odd.pdparams"
    path.write_bytes(pickle.dumps({"w": value}, 4))
    with pytest.raises(InputError, match=r"odd\.pdparams"):
        array_files.read_pdparams(path)


@pytest.mark.parametrize("data", [b"", b"\x80", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({})])
def test_damaged_or_empty_files_get_one_line(tmp_path, data):
    path = tmp_path / "w.pdparams"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"w\.pdparams") as caught:
        array_files.read_pdparams(path)
    assert "\n" not in str(caught.value)


def test_truncation_anywhere_is_noticed(tmp_path):
    array_files.write_pdparams(tmp_path / "a.pdparams", ARRAYS)
    data = (tmp_path / "a.pdparams").read_bytes()
    for length in range(0, len(data) - 1, 7):
        with pytest.raises(InputError):
            array_files.parse_pdparams(data[:length], "cut")


def test_safetensors_round_trip_and_damage(tmp_path):
    path = tmp_path / "a.safetensors"
    native = {name: np.ascontiguousarray(ARRAYS[name]) for name in ("conv.weight", "fortran")}
    array_files.write_safetensors(path, native)
    assert same(array_files.read_safetensors(path), native)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"a\.safetensors: not a readable"):
        array_files.read_safetensors(path)


def test_missing_file_is_named(tmp_path):
    for name, read in (("w.pdparams", array_files.read_pdparams), ("w.safetensors", array_files.read_safetensors)):
        with pytest.raises(InputError, match=f"{name}: no such file"):
            read(tmp_path / name)


def test_one_large_value_cannot_be_named_without_end():
    from reliability.hostile import amplifiers

    kinds = list(amplifiers(calls=300))
    assert len(kinds) > 8
    for name, data in kinds:
        with pytest.raises(InputError, match="refused: ") as caught:
            array_files.parse_pdparams(data, "w.pdparams")
        assert "MemoryError" not in str(caught.value), name


def test_numbers_that_no_network_has_are_named():
    from stdc.weights.array_files import check_numbers

    sound = {"a._variance": np.zeros(2, np.float32), "n": np.array(3)}
    assert check_numbers(sound, "w") is sound
    with pytest.raises(InputError, match=r"w: damaged: 2 of 2 numbers in b are not finite"):
        check_numbers({**sound, "b": np.full(2, np.nan)}, "w")
