"""Weights as files, without ever executing pickled code.

`.pdparams` (PaddleSeg's exchange format) is a pickle. It is read by an unpickler that knows a handful of names and
builds arrays from bytes whose length it has checked; it is written so that old and new NumPy read it. Our own
files are safetensors.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
from pathlib import Path
from typing import Any, ClassVar, Dict, Mapping, Tuple

import numpy as np

from stdc import files
from stdc.errors import InputError

Arrays = Dict[str, np.ndarray]

#: Paddle's table of parameter names inside a state dict; names only, of no use here.
_NAME_TABLE = "StructuredToParameterName@@"


def read_pdparams(path: files.PathLike) -> Arrays:
    """Read a `.pdparams` file as {parameter name: array}.

    Raises:
        InputError: missing, truncated, not a state dict, or it asks for anything but arrays.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    return parse_pdparams(data, str(path))


def parse_pdparams(data: bytes, name: str) -> Arrays:
    """`read_pdparams` from memory; `name` is for messages."""
    try:
        value = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _RefusedError as refused:
        raise InputError(f"{name}: refused: {refused}; a weights file holds arrays and nothing else") from None
    # A damaged pickle can raise nearly anything; none of it says more than this.
    except Exception as error:
        raise InputError(f"{name}: not a readable weights file ({type(error).__name__}: {error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{name}: a table of parameters is expected, found {type(value).__name__}")
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


def write_pdparams(path: files.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
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
    import safetensors
    from safetensors.numpy import load

    try:
        return dict(load(Path(path).read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None


def write_safetensors(path: files.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file atomically; equal arrays give equal bytes."""
    from safetensors.numpy import save

    files.write_bytes(path, save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}))


def read(path: files.PathLike) -> Arrays:
    """Read weights in any of the formats above, chosen by the suffix.

    Raises:
        InputError: unknown suffix, missing or damaged file.
    """
    suffix = Path(path).suffix
    if suffix == ".safetensors":
        return read_safetensors(path)
    if suffix == ".pdparams":
        return read_pdparams(path)
    raise InputError(f"{path}: weights end in .pdparams or .safetensors")


class _RefusedError(Exception):
    """The pickle asks for something that is not an array."""


class _StoredArray:
    """What a pickled NumPy array becomes here."""

    array: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, stored, fortran, data = state
        if not isinstance(stored, _StoredDtype) or not isinstance(data, (bytes, str)):
            raise _RefusedError("an array of Python objects")
        if isinstance(data, str):
            data = data.encode("latin1")
        shape = tuple(int(size) for size in shape)
        if min(shape, default=0) < 0 or math.prod(shape) * stored.dtype.itemsize != len(data):
            raise _RefusedError(f"an array of shape {shape} with {len(data)} bytes")
        array = np.frombuffer(data, stored.dtype).reshape(shape, order="F" if fortran else "C")
        self.array = np.array(array, stored.dtype.newbyteorder("="), order="C")


class _StoredDtype:
    """What a pickled NumPy dtype becomes here: numbers only."""

    def __init__(self, code: Any, *_: Any) -> None:
        try:
            self.dtype = np.dtype(str(code))
        except TypeError:
            raise _RefusedError(f"dtype {str(code)[:40]!r}") from None
        if self.dtype.kind not in "biuf":
            raise _RefusedError(f"dtype {str(code)[:40]!r}")

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order in (">", "<"):
            self.dtype = self.dtype.newbyteorder(order)


class _ArrayType:
    """Stands for `numpy.ndarray` where a pickle names it; not callable, so it allocates nothing."""


_ARRAY_TYPE = _ArrayType()


def _reconstruct(subtype: Any, shape: Any, _: Any) -> _StoredArray:
    if subtype is not _ARRAY_TYPE or tuple(shape) != (0,):
        raise _RefusedError("an array made in an unusual way")
    return _StoredArray()


def _encode(text: str, encoding: str) -> bytes:
    """`_codecs.encode`, which protocol 2 uses for bytes."""
    if encoding != "latin1":
        raise _RefusedError(f"encoding {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Knows arrays and the dicts and tuples around them; every other name is refused."""

    _KNOWN: ClassVar[Dict[Tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _ARRAY_TYPE,
        ("numpy", "dtype"): _StoredDtype,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("builtins", "tuple"): tuple,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise _RefusedError(f"the file asks to run {module}.{name}") from None

    def persistent_load(self, identifier: Any) -> Any:
        raise _RefusedError("a reference to something outside the file")


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
