"""ImageNet weights of the backbone: from a path or URL, checked, without executing pickled code."""

from __future__ import annotations

import contextlib
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Callable, Iterator, Optional

from stdc import files
from stdc.engine import torch_weights, weights
from stdc.errors import InputError

Arrays = weights.Arrays

#: No weights file of this network comes near; a download or an archive member that does is not one.
_MAX_BYTES = 512 << 20
_TIMEOUT_S = 60.0
_CHUNK_BYTES = 1 << 20


def fetch_backbone(source: str, sha256: Optional[str], backbone: str, output: Path, say: Callable[[str], None]) -> None:
    """Write the backbone's parameters as safetensors.

    Accepts `.pdparams`, `.safetensors`, PaddleSeg's `.tar.gz` around a `model.pdparams`, and what the authors' code
    saved.

    Args:
        source: a path, or an http or https address.
        sha256: of the file; needed for a download, optional for a local file.
        backbone: "stdc1" or "stdc2"; weights of the other one are refused.
    Raises:
        InputError: unreachable, another checksum, damaged, or weights of another network.
    """
    if _is_url(source) and sha256 is None:
        raise InputError("model.pretrained.sha256: needed for a download; a local file may do without")
    output.parent.mkdir(parents=True, exist_ok=True)
    with _local_copy(source, output.parent, say) as path:
        found = files.sha256_file(path)
        if sha256 is not None and found != sha256.lower():
            raise InputError(f"{_shown(source)}: SHA-256 is {found}, model.pretrained.sha256 says {sha256}")
        arrays = read_any(path)
    weights.write_safetensors(output, _checked(arrays, backbone, _shown(source)))
    say(f"{len(arrays)} arrays from {_shown(source)} (SHA-256 {found})")


def read_any(path: Path) -> Arrays:
    """Weights in any of the formats that the backbones are published in, under PaddleSeg's names.

    Raises:
        InputError: damaged, or no weights.
    """
    if torch_weights.is_torch_file(path):
        return torch_weights.convert(torch_weights.read_torch(path))
    if tarfile.is_tarfile(path):
        return weights.parse_pdparams(_tar_member(path), str(path))
    if path.suffix == ".safetensors":
        return weights.read_safetensors(path)
    return weights.read_pdparams(path)


def _checked(arrays: Arrays, backbone: str, source: str) -> Arrays:
    """The backbone's own parameters, all of them and of the right shapes."""
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_backbone, state_arrays

    model = build_segmentor(backbone)
    load_backbone(model, arrays, source)
    return state_arrays(model.cp.backbone)


def _tar_member(path: Path) -> bytes:
    """The one `.pdparams` of an archive, read in memory: nothing is unpacked, so no name can escape."""
    try:
        with tarfile.open(path) as archive:
            found = [member for member in archive if member.isfile() and member.name.endswith(".pdparams")]
            if len(found) != 1:
                raise InputError(f"{path}: one .pdparams file is expected in it, found {len(found)}")
            if found[0].size > _MAX_BYTES:
                raise InputError(
                    f"{path}: {found[0].name} has {found[0].size} bytes, at most {_MAX_BYTES} are expected"
                )
            handle = archive.extractfile(found[0])
            return handle.read() if handle is not None else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a readable archive ({error})") from None


@contextlib.contextmanager
def _local_copy(source: str, folder: Path, say: Callable[[str], None]) -> Iterator[Path]:
    if not _is_url(source):
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(f"model.pretrained.source: {path}: no such file")
        yield path
        return
    suffix = "".join(Path(urllib.parse.urlsplit(source).path).suffixes[-2:])
    temporary = folder / f".tmp-download{suffix}"
    try:
        _download(source, temporary, say)
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _download(source: str, target: Path, say: Callable[[str], None]) -> None:
    say(f"downloading {_shown(source)}")
    try:
        # Only http and https get here, see `_is_url`.
        with urllib.request.urlopen(source, timeout=_TIMEOUT_S) as answer, target.open("wb") as handle:
            received = 0
            for chunk in iter(lambda: answer.read(_CHUNK_BYTES), b""):
                received += len(chunk)
                if received > _MAX_BYTES:
                    raise InputError(f"{_shown(source)}: larger than {_MAX_BYTES} bytes, not a backbone")
                handle.write(chunk)
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"{_shown(source)}: download failed ({reason}); give a local file instead") from None


def _is_url(source: str) -> bool:
    scheme = urllib.parse.urlsplit(source).scheme
    if scheme in ("http", "https"):
        return True
    if "://" in source:
        raise InputError(f"model.pretrained.source: {scheme}: is not supported; a path, http or https is expected")
    return False


def _shown(source: str) -> str:
    """The source without a name and password that an address may carry."""
    parts = urllib.parse.urlsplit(source)
    if not parts.scheme or "@" not in parts.netloc:
        return source
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[1], query="").geturl()
