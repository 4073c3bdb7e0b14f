"""Torch checkpoints, read without torch and without executing pickled code.

Both containers of `torch.save` are known: the zip file of torch 1.6 and later, and the row of pickles of older
versions, which torch 1.1 of the authors' time wrote. The attacks on the pickles are told in `stdc.weights.pickles`.
Those on the containers:

- *A table of contents of gigabytes.* The zip's is read in one piece, so its length is bounded first.
- *Entries that unpack without end.* torch packs no numbers, so a packed storage is refused before it is read; the
  pickle is bounded.
- *Many entries over the same bytes, many tensors over one storage, strides of zero.* All storages together may have no
  more bytes than the file, a tensor no more elements than its storage, and all tensors together what the `Budget` says.
- *Counts that lie.* Each is compared with what is there before memory is reserved.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
from typing import Any, BinaryIO, Callable, Dict, List, Tuple

import numpy as np

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError, shortened
from stdc.weights.pickles import Budget, DataUnpickler, RefusedError
from stdc.weights.torch_pickles import Storage, Tensor, TensorUnpickler

#: `torch.serialization.MAGIC_NUMBER`: what the old container starts with.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

#: A state dict's pickle without its numbers has 100 kB; notes beside it (a configuration, say) some more.
_LONGEST_STRUCTURE = 16 << 20
#: A zip's table of contents: 80 bytes for each of a thousand storages.
_LONGEST_CONTENTS = 4 << 20

#: Where training code keeps the state dict inside its checkpoint.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")


def is_torch_file(path: files.PathLike) -> bool:
    """Whether a file starts like something `torch.save` wrote."""
    with files.open_file(path) as handle:
        start = handle.read(16)
    return start[:4] == b"PK\x03\x04" or b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in start


def read_torch(path: files.PathLike) -> Arrays:
    """Read the tensors of a state dict that `torch.save` wrote.

    A checkpoint that keeps its weights under "state_dict", "model" or a similar key is unwrapped, and so is the
    "module." prefix of data parallel training. Everything else in a checkpoint (epoch, optimizer) is left out.

    Raises:
        InputError: missing, damaged, not a checkpoint, or its pickle asks for anything but tensors.
    """
    try:
        with files.open_file(path) as handle:
            reader = _read_zip if zipfile.is_zipfile(handle) else _read_legacy
            handle.seek(0)
            value, arrays = reader(handle, os.fstat(handle.fileno()).st_size)
    except InputError:
        raise
    except RefusedError as refused:
        raise InputError(f"{path}: refused: {refused}") from None
    # A failing disk is no damaged file, and says so itself; but an archive can name places that no file has. A damaged
    # pickle or archive can raise nearly anything else; none of it says more than this.
    except OSError as error:
        if error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
            raise
        raise InputError(f"{path}: not a readable torch checkpoint ({error})") from None
    except Exception as error:
        raise InputError(f"{path}: not a readable torch checkpoint ({type(error).__name__}: {error})") from None
    if not arrays:
        raise InputError(f"{path}: holds no state dict but {_found(value)}; torch.save(model.state_dict()) is expected")
    prefix = "module."
    return {key[len(prefix) :] if key.startswith(prefix) else key: array for key, array in arrays.items()}


def _found(value: Any) -> str:
    """What a checkpoint without weights holds, for a message."""
    if not isinstance(value, dict):
        return f"a value of type {type(value).__name__.lstrip('_').lower()}"
    if "param_groups" in value:
        return "the state of an optimizer"
    names = [shortened(str(key)) for key in list(value)[:3]]
    return f"the entries {', '.join(names)}" if names else "an empty table"


def _state_dict(value: Any) -> Dict[Any, Any]:
    for key in _STATE_DICT_KEYS:
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
            break
    return value if isinstance(value, dict) else {}


class _BoundedFile:
    """A file for `zipfile`, which reads the table of contents in one piece, however long it claims to be.

    Args:
        handle: the file.
        most: bytes that one read may ask for; 0 for any number.
    """

    def __init__(self, handle: BinaryIO, most: int) -> None:
        self._handle, self.most = handle, most

    def read(self, count: int = -1) -> bytes:
        if self.most and count > self.most:
            raise RefusedError(f"a zip with a table of contents of {count} bytes")
        return self._handle.read(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


def _read_zip(handle: BinaryIO, size: int) -> Tuple[Any, Arrays]:
    bounded = _BoundedFile(handle, _LONGEST_CONTENTS)
    with zipfile.ZipFile(bounded) as archive:
        bounded.most = 0
        structures = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == "data.pkl"]
        if not structures:
            raise RefusedError(f"a zip archive, but none of torch's{_listed(archive.namelist())}; unpack it first")
        if len(structures) != 1:
            raise RefusedError(f"{len(structures)} entries named data.pkl in the archive; exactly one is expected")
        folder = structures[0][: -len("data.pkl")]
        order = archive.NameToInfo.get(f"{folder}byteorder")
        if order is not None and (order.file_size != len(b"little") or archive.read(order) != b"little"):
            raise RefusedError("numbers in big-endian order")
        if archive.getinfo(structures[0]).file_size > _LONGEST_STRUCTURE:
            raise RefusedError("more pickled structure than a state dict has")
        unpickler = TensorUnpickler(io.BytesIO(archive.read(structures[0])), Budget())
        value = unpickler.load()
        left = size

        def numbers(storage: Storage) -> np.ndarray:
            nonlocal left
            entry = archive.getinfo(f"{folder}data/{storage.key}")
            # Compared before anything is read: a packed entry could grow without bound, and torch packs none. Entries
            # may lie over each other.
            left -= entry.file_size
            if entry.file_size != storage.length or entry.compress_type != zipfile.ZIP_STORED or left < 0:
                raise RefusedError(
                    f"storage {shortened(storage.key)} has {entry.file_size} bytes, {storage.length} expected"
                )
            return storage.numbers(archive.read(entry))

        return value, _with_arrays(value, numbers, unpickler.budget)


def _listed(names: List[str]) -> str:
    """The weights among the names of an archive, for a message."""
    found = [shortened(name) for name in names if name.endswith((".pdparams", ".pth", ".pt", ".tar", ".safetensors"))]
    return f" (it holds {', '.join(found[:3])})" if found else ""


def _read_legacy(handle: BinaryIO, size: int) -> Tuple[Any, Arrays]:
    budget = Budget()

    def plain() -> Any:
        """The next pickle, made of plain values."""
        return DataUnpickler(handle, budget).load()

    if plain() != _LEGACY_MAGIC:
        raise RefusedError("neither of the two containers that torch.save writes")
    if plain() != _LEGACY_PROTOCOL:
        raise RefusedError("an unknown version of torch's container")
    system = plain()
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise RefusedError("numbers in big-endian order")
    unpickler = TensorUnpickler(handle, budget)
    value = unpickler.load()
    keys = plain()
    loaded: Dict[str, np.ndarray] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = unpickler.storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise RefusedError("a storage that no tensor uses")
        (count,) = struct.unpack("<q", handle.read(8))
        if count != storage.size or storage.length > size - handle.tell():
            raise RefusedError(f"storage {shortened(storage.key)} has {count} numbers, {storage.size} expected")
        loaded[key] = storage.numbers(handle.read(storage.length))

    return value, _with_arrays(value, lambda storage: loaded[storage.key], budget)


def _with_arrays(value: Any, numbers: Callable[[Storage], np.ndarray], budget: Budget) -> Arrays:
    """The tensors of the state dict in `value`, as arrays.

    Args:
        numbers: reads a storage.
    """
    arrays: Arrays = {}
    read: Dict[str, np.ndarray] = {}
    for key, item in _state_dict(value).items():
        if not isinstance(key, str) or not isinstance(item, Tensor):
            continue
        storage = item.storage
        if storage.key not in read:
            read[storage.key] = numbers(storage)
        arrays[key] = item.array(read[storage.key], budget)
    return arrays
