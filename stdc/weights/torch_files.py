"""The authors' torch checkpoints, read without torch and without executing pickled code.

Both containers of `torch.save` are known: the zip file of torch 1.6 and later, and the row of pickles of older
versions, which torch 1.1 of the authors' time wrote. What an attacker may try is told in `stdc.weights.pickles`.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Callable, ClassVar, Dict, NamedTuple, Tuple

import numpy as np

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.weights.array_files import MAX_BYTES, is_shape
from stdc.weights.pickles import Buildable, DataUnpickler, Maker, RefusedError, brief, make_dict

#: `torch.serialization.MAGIC_NUMBER`: what the old container starts with.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

#: More pickled structure than any list of tensors needs.
_STRUCTURE_LIMIT_BYTES = 64 << 20

_STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


def is_torch_file(path: files.PathLike) -> bool:
    """Whether a file starts like something `torch.save` wrote."""
    with Path(path).open("rb") as handle:
        start = handle.read(16)
    return start[:4] == b"PK\x03\x04" or b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in start


def read_torch(path: files.PathLike) -> Arrays:
    """Read the tensors of a state dict that `torch.save` wrote.

    A checkpoint that keeps its weights under "state_dict" is unwrapped, and so is the "module." prefix of data parallel
    training. Everything else in a checkpoint (epoch, optimizer) is left out.

    Raises:
        InputError: missing, damaged, not a checkpoint, or its pickle asks for anything but tensors.
    """
    try:
        with Path(path).open("rb") as handle:
            reader = _read_zip if zipfile.is_zipfile(handle) else _read_legacy
            handle.seek(0)
            arrays = reader(handle)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except RefusedError as refused:
        raise InputError(f"{path}: refused: {refused}") from None
    # A damaged pickle or archive can raise nearly anything; none of it says more than this.
    except Exception as error:
        raise InputError(f"{path}: not a readable torch checkpoint ({type(error).__name__}: {error})") from None
    if not arrays:
        raise InputError(f"{path}: holds no state dict; a file written by torch.save(model.state_dict()) is expected")
    prefix = "module."
    return {key[len(prefix) :] if key.startswith(prefix) else key: array for key, array in arrays.items()}


def _state_dict(value: Any) -> Dict[Any, Any]:
    for key in ("state_dict", "model_state", "model"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
            break
    return value if isinstance(value, dict) else {}


class _StorageType(NamedTuple):
    """Stands for a torch storage class; not callable, so a pickle cannot make anything of it."""

    dtype: str


class _Storage(NamedTuple):
    """A run of numbers somewhere in the file, promised by the pickle."""

    key: str
    dtype: str
    size: int


class _Tensor:
    """A tensor whose numbers may not be read yet: in the old container they follow the pickle."""

    def __init__(self, storage: _Storage, offset: int, shape: Tuple[int, ...], strides: Tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides
        self.bytes = math.prod(shape) * np.dtype(storage.dtype).itemsize

    def array(self, numbers: np.ndarray) -> np.ndarray:
        bytes_each = numbers.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.shape, [stride * bytes_each for stride in self.strides], writeable=False
        )
        return np.array(view, order="C")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise RefusedError("a tensor without numbers")
    if not (is_shape(shape) and is_shape(strides) and is_shape((offset,)) and len(shape) == len(strides)):
        raise RefusedError("a tensor whose shape is none")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    # Fewer elements than numbers: a stride of zero could ask for any amount of memory.
    if math.prod(shape) > storage.size or (math.prod(shape) and last >= storage.size):
        raise RefusedError(f"a tensor of shape {shape} over {storage.size} numbers")
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


class _Ignored(Buildable):
    """A NumPy number among a checkpoint's notes (an accuracy, say)."""

    def __init__(self, *_: Any) -> None:
        pass

    def build(self, state: Any) -> None:
        pass


class _TensorUnpickler(DataUnpickler):
    """Knows tensors and the dicts around them; every other name is refused."""

    _KNOWN: ClassVar[Dict[Tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): Maker(make_dict),
        ("torch._utils", "_rebuild_tensor_v2"): Maker(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor"): Maker(_rebuild_tensor),
        ("torch._utils", "_rebuild_parameter"): Maker(_rebuild_parameter),
        ("numpy.core.multiarray", "scalar"): Maker(_Ignored),
        ("numpy._core.multiarray", "scalar"): Maker(_Ignored),
        ("numpy", "dtype"): Maker(_Ignored),
        ("_codecs", "encode"): Maker(_Ignored),
    }

    def __init__(self, handle: BinaryIO) -> None:
        super().__init__(handle)
        self.storages: Dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise RefusedError(
                f"the file asks to run {brief(f'{module}.{name}')}; a state dict is expected, not a whole pickled model"
            ) from None

    def persistent_load(self, identifier: Any) -> _Storage:
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise RefusedError("a reference to something that is not a storage")
        _, kind, key, _, count = identifier[:5]
        if len(identifier) == 6 and identifier[5] is not None:
            raise RefusedError("a view of another storage")
        if not isinstance(kind, _StorageType) or not isinstance(key, str):
            raise RefusedError("a storage of unknown type")
        if not is_shape((count,)):
            raise RefusedError("a storage of no size")
        storage = _Storage(key, kind.dtype, count)
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedError(f"storage {brief(key)} described twice")
        return storage


def _read_zip(handle: BinaryIO) -> Arrays:
    with zipfile.ZipFile(handle) as archive:
        structures = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == "data.pkl"]
        if len(structures) != 1:
            raise RefusedError(f"{len(structures)} entries named data.pkl in the archive; exactly one is expected")
        folder = structures[0][: -len("data.pkl")]
        order = archive.NameToInfo.get(f"{folder}byteorder")
        if order is not None and (order.file_size != len(b"little") or archive.read(order) != b"little"):
            raise RefusedError("numbers in big-endian order")
        if archive.getinfo(structures[0]).file_size > _STRUCTURE_LIMIT_BYTES:
            raise RefusedError("more pickled structure than a state dict has")
        unpickler = _TensorUnpickler(io.BytesIO(archive.read(structures[0])))
        value = unpickler.load()

        def numbers(storage: _Storage) -> np.ndarray:
            entry = archive.getinfo(f"{folder}data/{storage.key}")
            wanted = storage.size * np.dtype(storage.dtype).itemsize
            # Compared before anything is read: a compressed entry could grow without bound, and torch packs none.
            if entry.file_size != wanted or entry.compress_type != zipfile.ZIP_STORED:
                raise RefusedError(f"storage {brief(storage.key)} has {entry.file_size} bytes, {wanted} expected")
            return np.frombuffer(archive.read(entry), storage.dtype)

        return _with_arrays(value, numbers)


def _read_legacy(handle: BinaryIO) -> Arrays:
    if _plain(handle) != _LEGACY_MAGIC:
        raise RefusedError("neither of the two containers that torch.save writes")
    if _plain(handle) != _LEGACY_PROTOCOL:
        raise RefusedError("an unknown version of torch's container")
    system = _plain(handle)
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise RefusedError("numbers in big-endian order")
    unpickler = _TensorUnpickler(handle)
    value = unpickler.load()
    keys = _plain(handle)
    loaded: Dict[str, np.ndarray] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = unpickler.storages.get(key)
        if storage is None:
            raise RefusedError("a storage that no tensor uses")
        (count,) = struct.unpack("<q", handle.read(8))
        if count != storage.size or count * np.dtype(storage.dtype).itemsize > MAX_BYTES:
            raise RefusedError(f"storage {brief(key)} has {count} numbers, {storage.size} expected")
        data = handle.read(count * np.dtype(storage.dtype).itemsize)
        loaded[key] = np.frombuffer(data, storage.dtype, count)

    return _with_arrays(value, lambda storage: loaded[storage.key])


def _plain(handle: BinaryIO) -> Any:
    """The next pickle, made of plain values."""
    return DataUnpickler(handle).load()


def _with_arrays(value: Any, numbers: Callable[[_Storage], np.ndarray]) -> Arrays:
    """The tensors of the state dict in `value`, as arrays.

    Args:
        numbers: reads a storage.
    """
    arrays: Arrays = {}
    read: Dict[str, np.ndarray] = {}
    left = MAX_BYTES
    for key, item in _state_dict(value).items():
        if not isinstance(key, str) or not isinstance(item, _Tensor):
            continue
        # Any number of tensors may name the same numbers.
        left -= item.bytes
        if left < 0:
            raise RefusedError(f"more than {MAX_BYTES} bytes of numbers")
        storage = item.storage
        if storage.key not in read:
            read[storage.key] = numbers(storage)
        arrays[key] = item.array(read[storage.key])
    return arrays
