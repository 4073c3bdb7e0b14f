"""Weights from a file in any of the formats in which this network is published, under PaddleSeg's names.

`.pdparams` (PaddleSeg), `.tar.gz` around one (PaddleSeg's backbones), `torch.save` (the authors, mmsegmentation) and
safetensors, with Paddle's names or torch's. The content decides, not the suffix (but for exported networks). Files that
are something else are refused in words that say what they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence, Tuple

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.weights import array_files, tar_files, torch_files, torch_names

_HEAD_BYTES = 512

#: (how such a file starts, in lower case and without leading spaces; what it is and what to do about it).
_OTHER_FILES: Sequence[Tuple[Tuple[bytes, ...], str]] = (
    (
        (b"version https://git-lfs",),
        "a pointer of Git LFS, which stands for the file; run git lfs pull, or download the file itself",
    ),
    (
        (b"<!doctype html", b"<html"),
        "a web page, not weights: the server asked for a login or a confirmation; download the file in a browser",
    ),
    ((b"<?xml",), "an answer of a file server, not weights; open it in an editor, it may say why"),
    ((b"\x89hdf",), "an HDF5 file (Keras); weights of Paddle or torch are expected"),
    ((b"\x89png", b"\xff\xd8\xff"), "a picture, not weights"),
    ((b"7z\xbc\xaf", b"rar!", b"bzh", b"\xfd7zxz"), "a packed archive; unpack it and give the file in it"),
)

#: ONNX and Paddle's inference format: batch norms are folded into what stands before them, and heads are left out.
_EXPORTED = (".onnx", ".pdmodel", ".pdiparams")


def read_weights(path: files.PathLike) -> Arrays:
    """Read a file of weights.

    Returns:
        {parameter name as PaddleSeg's: array}; all numbers are finite, no variance is negative.
    Raises:
        InputError: missing, a folder, damaged, or no weights; says what it is.
    """
    path = Path(path)
    other = _other_file(path)
    if other is not None:
        raise InputError(f"{path}: {other}")
    if torch_files.is_torch_file(path):
        arrays = torch_files.read_torch(path)
    elif tar_files.is_tar(path):
        arrays = array_files.parse_pdparams(tar_files.read_member(path), str(path))
    elif path.suffix == ".safetensors" or _is_safetensors(path):
        arrays = array_files.read_safetensors(path)
    else:
        arrays = array_files.read_pdparams(path)
    return torch_names.convert(array_files.check_numbers(arrays, str(path)))


def _other_file(path: Path) -> Optional[str]:
    """What a path that cannot hold weights is; None for one that may."""
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in (".pdparams", ".safetensors", ".pth"))
        return f"a folder; give the file in it{f', such as {path / inside[0]}' if inside else ''}"
    with files.open_file(path) as handle:
        head = handle.read(_HEAD_BYTES).lstrip().lower()
    if not head:
        return "an empty file; was its download cut off?"
    if path.suffix in _EXPORTED:
        return "an exported network, read by predict alone; give the weights that it was exported from"
    return next((words for starts, words in _OTHER_FILES if head.startswith(starts)), None)


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors do: eight bytes of a length, then a table."""
    with files.open_file(path) as handle:
        return handle.read(10)[8:] == b'{"'
