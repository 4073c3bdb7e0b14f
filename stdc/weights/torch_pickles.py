"""The pickle inside a torch checkpoint: tensors and the dicts around them; everything else it may name is refused.

The numbers are not in the pickle, which only says where each tensor lies in which storage; `torch_files` reads the
storages out of their container. How hostile pickles are met is told in `stdc.weights.pickles`.
"""

from __future__ import annotations

import math
from typing import Any, BinaryIO, ClassVar, Dict, NamedTuple, Tuple

import numpy as np

from stdc.errors import shortened
from stdc.weights.array_files import is_shape
from stdc.weights.pickles import Budget, Buildable, DataUnpickler, Maker, RefusedError, make_dict

#: Marks bfloat16, which NumPy does not know: the upper half of a float32.
_BFLOAT16 = "bfloat16"
_STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


class _StorageType(NamedTuple):
    """Stands for a torch storage class; not callable, so a pickle cannot make anything of it."""

    dtype: str


class Storage(NamedTuple):
    """A run of numbers somewhere in the file, promised by the pickle."""

    key: str
    dtype: str
    size: int

    @property
    def length(self) -> int:
        """In bytes."""
        return self.size * _dtype(self.dtype).itemsize

    def numbers(self, data: bytes) -> np.ndarray:
        """The numbers, shape (size,); bfloat16 as float32."""
        stored = np.frombuffer(data, _dtype(self.dtype), self.size)
        if self.dtype == _BFLOAT16:
            return (stored.astype("<u4") << 16).view("<f4")
        return stored


def _dtype(code: str) -> np.dtype[Any]:
    return np.dtype("<u2" if code == _BFLOAT16 else code)


class Tensor:
    """A tensor whose numbers may not be read yet: in the old container they follow the pickle."""

    def __init__(self, storage: Storage, offset: int, shape: Tuple[int, ...], strides: Tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self, numbers: np.ndarray, budget: Budget) -> np.ndarray:
        """The tensor itself, a copy of its part of the storage's numbers.

        Raises:
            RefusedError: the file's arrays together are larger than `budget` allows.
        """
        bytes_each = numbers.dtype.itemsize
        # Tensors may share a storage, so the bytes of every one count.
        budget.spend_bytes(math.prod(self.shape) * bytes_each)
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.shape, [stride * bytes_each for stride in self.strides], writeable=False
        )
        return np.array(view, order="C")


def _rebuild_tensor(_: Budget, storage: Any, offset: Any, shape: Any, strides: Any, *_rest: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise RefusedError("a tensor without numbers")
    if not (is_shape(shape) and is_shape(strides) and is_shape((offset,)) and len(shape) == len(strides)):
        raise RefusedError("a tensor whose shape is none")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    # A view with more elements than its storage: with strides of zero a tiny file could expand without bound.
    if math.prod(shape) > storage.size or (math.prod(shape) and last >= storage.size):
        raise RefusedError(f"a tensor of shape {shape} over {storage.size} numbers")
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(_: Budget, data: Any, *_rest: Any) -> Any:
    return data


class _Note(Buildable):
    """Something that a checkpoint keeps beside its weights and nobody needs here (an accuracy, an argument)."""

    def __init__(self, *_: Any) -> None:
        pass

    def build(self, state: Any) -> None:
        pass


class TensorUnpickler(DataUnpickler):
    """Knows tensors, the dicts around them, and common notes beside them; every other name is refused.

    Attributes:
        storages: by key, those that the pickle has promised so far.
    """

    _KNOWN: ClassVar[Dict[Tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): Maker(make_dict),
        ("torch._utils", "_rebuild_tensor_v2"): Maker(_rebuild_tensor),
        ("torch._utils", "_rebuild_tensor"): Maker(_rebuild_tensor),
        ("torch._utils", "_rebuild_parameter"): Maker(_rebuild_parameter),
        **{
            name: Maker(_Note)
            for name in (
                ("numpy.core.multiarray", "scalar"),
                ("numpy._core.multiarray", "scalar"),
                ("numpy.core.multiarray", "_reconstruct"),
                ("numpy._core.multiarray", "_reconstruct"),
                ("numpy", "ndarray"),
                ("numpy", "dtype"),
                ("_codecs", "encode"),
                ("argparse", "Namespace"),
                ("datetime", "datetime"),
                ("pathlib", "PosixPath"),
                ("pathlib", "WindowsPath"),
                ("torch", "Size"),
                ("torch", "device"),
            )
        },
    }

    def __init__(self, handle: BinaryIO, budget: Budget) -> None:
        super().__init__(handle, budget)
        self.storages: Dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name in the file: the few that a state dictionary needs, and no other.

        Raises:
            RefusedError: the file names anything else, which an ordinary unpickler would import and could run.
        """
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise RefusedError(
                f"the file asks to run {shortened(f'{module}.{name}')}: a whole pickled model, or notes beside the "
                "weights; save the weights alone by torch.save(model.state_dict(), <file>)"
            ) from None

    def persistent_load(self, identifier: Any) -> Storage:
        """The storage that a tensor refers to: its place in the file, its type and its number of elements.

        Raises:
            RefusedError: the reference is not torch's tuple for a whole storage.
        """
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
            raise RefusedError("a reference to something that is not a storage")
        _, kind, key, _, count = identifier[:5]
        if len(identifier) == 6 and identifier[5] is not None:
            raise RefusedError("a view of another storage")
        if not isinstance(kind, _StorageType) or not isinstance(key, str):
            raise RefusedError("a storage of unknown type")
        if not is_shape((count,)):
            raise RefusedError("a storage of no size")
        storage = Storage(key, kind.dtype, count)
        if self.storages.setdefault(key, storage) != storage:
            raise RefusedError(f"storage {shortened(key)} described twice")
        return storage
