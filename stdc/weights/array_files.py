"""Weights as files, without ever executing pickled code.

`.pdparams` (PaddleSeg's exchange format) is a pickle. It is read by `stdc.weights.pickles`, which knows a handful of
names here, and arrays are made from bytes whose length was checked; it is written so that old and new NumPy read it.
Our own files are safetensors.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import struct
from typing import Any, ClassVar, Dict, Tuple

import numpy as np

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError, shortened
from stdc.weights.pickles import Budget, Buildable, DataUnpickler, Maker, RefusedError, make_dict, make_tuple

#: Entry of a state dict where Paddle keeps a table of parameter names. It holds no arrays.
_NAME_TABLE = "StructuredToParameterName@@"

#: What `paddle.optimizer` keeps in a `.pdopt` file beside momenta named after the parameters.
_OPTIMIZER_KEYS = {"LR_Scheduler", "master_weights"}
_OPTIMIZER_ENTRY = re.compile(r"_(velocity|moment[12])_\d+$")

#: Running variances, under Paddle's name and torch's.
_VARIANCES = ("._variance", ".running_var")

#: The largest `.pdparams` or safetensors file read (this network's have at most 52 MB): it is held in memory.
MAX_BYTES = 192 << 20

#: The longest table of contents of a safetensors file; this network's takes 80 kB, and Python keeps it in twenty times
#: as much.
_LONGEST_HEADER = 4 << 20


def read_pdparams(path: files.PathLike) -> Arrays:
    """Read a `.pdparams` file as {parameter name: array}.

    Raises:
        InputError: missing, truncated, not a state dict, or it asks for anything but arrays.
    """
    return parse_pdparams(_read(path), str(path))


def _read(path: files.PathLike) -> bytes:
    with files.open_file(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size} bytes; a weights file has at most {MAX_BYTES}")
        return handle.read()


def parse_pdparams(data: bytes, name: str) -> Arrays:
    """`read_pdparams` from memory; `name` is for messages."""
    try:
        value = _ArrayUnpickler(io.BytesIO(data), Budget()).load()
    except RefusedError as refused:
        raise InputError(f"{name}: refused: {refused}; a weights file holds arrays and nothing else") from None
    # A damaged pickle can raise nearly anything; none of it says more than this.
    except Exception as error:
        raise InputError(f"{name}: not a readable weights file ({type(error).__name__}: {error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{name}: a table of parameters is expected, found {type(value).__name__}")
    optimizer = [str(key) for key in value if str(key) in _OPTIMIZER_KEYS or _OPTIMIZER_ENTRY.search(str(key))]
    if optimizer:
        raise InputError(
            f"{name}: the state of an optimizer (it holds {shortened(optimizer[0])}), not weights; "
            "the weights are in the .pdparams file beside it"
        )
    arrays: Arrays = {}
    for key, item in value.items():
        if key == _NAME_TABLE:
            continue
        # Paddle stores a tensor of a nested dict as (parameter name, array).
        if isinstance(item, tuple) and len(item) == 2:
            item = item[1]
        if not isinstance(key, str) or not isinstance(item, _StoredArray) or item.array is None:
            raise InputError(f"{name}: entry {str(key)[:80]!r} is not an array")
        arrays[key] = item.array
    if not arrays:
        raise InputError(f"{name}: holds no parameters")
    return arrays


def check_numbers(arrays: Arrays, name: str) -> Arrays:
    """The same arrays, if they can be a network's: all numbers finite, no variance below zero.

    Raises:
        InputError: damaged; names `name` and the first such array.
    """
    for key, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = array.size - int(np.count_nonzero(np.isfinite(array)))
            raise InputError(f"{name}: damaged: {bad} of {array.size} numbers in {shortened(key)} are not finite")
        if key.endswith(_VARIANCES) and array.size and array.min() < 0:
            raise InputError(f"{name}: damaged: {shortened(key)} holds a negative variance ({array.min():g})")
    return arrays


def write_pdparams(path: files.PathLike, arrays: Arrays) -> None:
    """Write a `.pdparams` file that `paddle.load` and PaddleSeg read; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    table = {str(name): np.asarray(arrays[name], order="C") for name in sorted(arrays)}
    _ExchangePickler(buffer, protocol=4).dump(table)
    files.write_bytes(path, buffer.getvalue())


def read_safetensors(path: files.PathLike) -> Arrays:
    """Read a safetensors file.

    Raises:
        InputError: missing or damaged.
    """
    return parse_safetensors(_read(path), str(path))


def parse_safetensors(data: bytes, name: str) -> Arrays:
    """Arrays from the bytes of a safetensors file.

    Raises:
        InputError: not such bytes; begins with `name`.
    """
    import safetensors
    from safetensors.numpy import load

    try:
        # The first eight bytes say how long the header is.
        if len(data) >= 8 and struct.unpack("<Q", data[:8])[0] > _LONGEST_HEADER:
            raise InputError(f"{name}: not a readable safetensors file (a header beyond {_LONGEST_HEADER >> 20} MB)")
        return dict(load(data))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        if "BF16" in str(error):
            raise InputError(f"{name}: holds bfloat16 numbers, which NumPy does not know; save it as float32") from None
        raise InputError(f"{name}: not a readable safetensors file ({error})") from None


def write_safetensors(path: files.PathLike, arrays: Arrays) -> None:
    """Write a safetensors file atomically; equal arrays give equal bytes."""
    from safetensors.numpy import save

    files.write_bytes(path, save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}))


def is_shape(value: Any) -> bool:
    """Whether a value from a file is a tuple of sizes, as many as NumPy surely allows."""
    # Counted before each is looked at: a small file can name a shape of a million sizes a million times.
    if not isinstance(value, tuple) or len(value) > _MOST_AXES:
        return False
    return all(type(size) is int and 0 <= size < 1 << 62 for size in value)


_MOST_AXES = 8


class _StoredArray(Buildable):
    """What a pickled NumPy array becomes here.

    Args:
        budget: of the file this array comes from.
    """

    def __init__(self, budget: Budget) -> None:
        self.array: Any = None
        self._budget = budget

    def build(self, state: Any) -> None:
        _, shape, stored, fortran, data = state
        if not isinstance(stored, _StoredDtype) or not isinstance(data, (bytes, str)):
            raise RefusedError("an array of Python objects")
        if isinstance(data, str):
            data = data.encode("latin1")
        if not is_shape(shape) or math.prod(shape) * stored.dtype.itemsize != len(data):
            raise RefusedError(f"an array whose shape does not fit its {len(data)} bytes")
        self._budget.spend_bytes(len(data))
        array = np.frombuffer(data, stored.dtype).reshape(shape, order="F" if fortran else "C")
        self.array = np.array(array, stored.dtype.newbyteorder("="), order="C")


class _StoredDtype(Buildable):
    """What a pickled NumPy dtype becomes here: numbers only."""

    def __init__(self, _budget: Budget, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or len(code) > _LONGEST_DTYPE:
            raise RefusedError("a dtype that is no number's")
        try:
            self.dtype = np.dtype(code)
        except TypeError:
            raise RefusedError(f"dtype {code!r}") from None
        if self.dtype.kind not in "biuf":
            raise RefusedError(f"dtype {code!r}")

    def build(self, state: Any) -> None:
        order = state[1]
        if order in (">", "<"):
            self.dtype = self.dtype.newbyteorder(order)


#: Longest code of a number's dtype that is accepted, for example "float64".
_LONGEST_DTYPE = 8

#: Stands for `numpy.ndarray` where a pickle names it.
_ARRAY_TYPE = object()


def _encode(budget: Budget, text: Any, encoding: Any) -> bytes:
    """`_codecs.encode`, which protocol 2 uses for bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise RefusedError("an encoding other than latin1")
    budget.spend_bytes(len(text))
    return text.encode("latin1")


def _reconstruct(budget: Budget, subtype: Any, shape: Any, _: Any) -> _StoredArray:
    """`numpy.core.multiarray._reconstruct`, which makes an empty array; its state fills it."""
    if subtype is not _ARRAY_TYPE or shape != (0,):
        raise RefusedError("an array made in an unusual way")
    return _StoredArray(budget)


class _ArrayUnpickler(DataUnpickler):
    """Knows arrays and the dicts and tuples around them; every other name is refused."""

    _KNOWN: ClassVar[Dict[Tuple[str, str], Any]] = {
        ("numpy", "ndarray"): _ARRAY_TYPE,
        ("numpy", "dtype"): Maker(_StoredDtype),
        ("numpy.core.multiarray", "_reconstruct"): Maker(_reconstruct),
        ("numpy._core.multiarray", "_reconstruct"): Maker(_reconstruct),
        ("collections", "OrderedDict"): Maker(make_dict),
        ("builtins", "tuple"): Maker(make_tuple),
        ("_codecs", "encode"): Maker(_encode),
    }

    def find_class(self, module: str, name: str) -> Any:
        known = self._KNOWN.get((module, name))
        return super().find_class(module, name) if known is None else known


#: The pure Python pickler, whose naming of globals can be changed.
_PythonPickler: Any = vars(pickle)["_Pickler"]


class _ExchangePickler(_PythonPickler):
    """Writes NumPy's constructor under the name that every NumPy since 1.0 knows."""

    def save_global(self, value: Any, name: Any = None) -> None:
        if getattr(value, "__name__", "") == "_reconstruct":
            self.write(pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n")
            self.memoize(value)
            return
        super().save_global(value, name)
