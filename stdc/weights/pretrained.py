"""ImageNet weights of the backbone: from a path or URL, checked, without executing pickled code."""

from __future__ import annotations

import contextlib
import errno
import gzip
import http.client
import io
import tarfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Callable, Iterator, Optional

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.weights import array_files, torch_files, torch_names

#: Largest download, and largest unpacked archive; this network's weights have at most 60 MB.
_MAX_BYTES = 512 << 20
_TIMEOUT_S = 60.0
#: Deadline for the whole download. The socket timeout alone restarts with every byte that arrives.
_LIMIT_S = 3600.0
_CHUNK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_TAR_MAGIC = b"ustar"
_TAR_MAGIC_AT = 257


def fetch_backbone(source: str, sha256: Optional[str], backbone: str, output: Path, log: Callable[[str], None]) -> None:
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
    if _is_url(source) and has_secret(source):
        raise InputError(
            f"model.pretrained.source: {_shown(source)} is given with a password or a query, which would end up in the "
            "results; download the file by hand and give its path"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with _local_copy(source, output.parent, log) as path:
        found = files.sha256_file(path)
        if sha256 is not None and found != sha256.lower():
            raise InputError(f"{_shown(source)}: SHA-256 is {found}, model.pretrained.sha256 says {sha256}")
        arrays = read_any(path)
    array_files.write_safetensors(output, _checked(arrays, backbone, _shown(source)))
    log(f"{len(arrays)} arrays from {_shown(source)} (SHA-256 {found})")


def read_any(path: Path) -> Arrays:
    """Weights in any of the formats that the backbones are published in, under PaddleSeg's names.

    Raises:
        InputError: damaged, or no weights.
    """
    if torch_files.is_torch_file(path):
        return torch_names.convert(torch_files.read_torch(path))
    if _is_tar(path):
        return array_files.parse_pdparams(_tar_member(path), str(path))
    if path.suffix == ".safetensors":
        return array_files.read_safetensors(path)
    return array_files.read_pdparams(path)


def _checked(arrays: Arrays, backbone: str, source: str) -> Arrays:
    """The backbone's own parameters, all of them and of the right shapes."""
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_backbone, state_arrays

    model = build_segmentor(backbone)
    load_backbone(model, arrays, source)
    return state_arrays(model.cp.backbone)


def _is_tar(path: Path) -> bool:
    # Not tarfile.is_tarfile: it unpacks the first member's notes, of any length, to find out.
    with path.open("rb") as handle:
        start = handle.read(_TAR_MAGIC_AT + len(_TAR_MAGIC))
    return start.startswith(_GZIP_MAGIC) or start.endswith(_TAR_MAGIC)


def _tar_member(path: Path) -> bytes:
    """The one `.pdparams` of an archive, read in memory: nothing is unpacked, so no name can escape."""
    try:
        with path.open("rb") as handle:
            packed = handle.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        # Unpacked here and not by tarfile, which follows the sizes that the archive claims.
        with gzip.open(path) if packed else path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InputError(f"{path}: unpacks to more than {_MAX_BYTES} bytes, not a backbone")
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            found = []
            for member in archive:
                if member.size < 0:
                    # tarfile would go back and read the same members for ever.
                    raise InputError(f"{path}: a member of negative size")
                if member.isreg() and member.name.endswith(".pdparams"):
                    found.append(member)
            if len(found) != 1:
                raise InputError(f"{path}: one .pdparams file is expected in it, found {len(found)}")
            if found[0].size > len(data):
                raise InputError(f"{path}: the .pdparams file in it is cut off")
            content = archive.extractfile(found[0])
            return content.read() if content is not None else b""
    except InputError:
        raise
    # A damaged archive can raise nearly anything; none of it says more than this.
    except Exception as error:
        raise InputError(f"{path}: not a readable archive ({error})") from None


@contextlib.contextmanager
def _local_copy(source: str, folder: Path, log: Callable[[str], None]) -> Iterator[Path]:
    if not _is_url(source):
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(f"model.pretrained.source: {path}: no such file")
        yield path
        return
    suffix = "".join(Path(urllib.parse.urlsplit(source).path).suffixes[-2:])
    temporary = folder / f".tmp-download{suffix}"
    try:
        _download(source, temporary, log)
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _download(source: str, target: Path, log: Callable[[str], None]) -> None:
    log(f"downloading {_shown(source)}")
    try:
        # Only http and https get here, see `_is_url`.
        with urllib.request.urlopen(source, timeout=_TIMEOUT_S) as answer, target.open("wb") as handle:
            received, deadline = 0, time.monotonic() + _LIMIT_S
            for chunk in iter(lambda: answer.read1(_CHUNK_BYTES), b""):
                received += len(chunk)
                if received > _MAX_BYTES:
                    raise InputError(f"{_shown(source)}: larger than {_MAX_BYTES} bytes, not a backbone")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not done after {_LIMIT_S:.0f} s")
                handle.write(chunk)
    except OSError as error:
        # urllib's errors and broken connections are among these; so is a full disk, which is another matter.
        if error.errno == errno.ENOSPC:
            raise
        reason = getattr(error, "reason", error)
        raise InputError(f"{_shown(source)}: download failed ({reason}); give a local file instead") from None
    except (http.client.HTTPException, ValueError) as error:
        raise InputError(
            f"{_shown(source)}: download failed ({type(error).__name__}); give a local file instead"
        ) from None


def _is_url(source: str) -> bool:
    try:
        scheme = urllib.parse.urlsplit(source).scheme
    except ValueError:
        # Not repeated: it may carry a password.
        raise InputError("model.pretrained.source: not an address; a path, http or https is expected") from None
    if scheme in ("http", "https"):
        return True
    if "://" in source:
        raise InputError(f"model.pretrained.source: {scheme}: is not supported; a path, http or https is expected")
    return False


def has_secret(source: str) -> bool:
    """Whether an address carries a name, a password, or a query, which is where tokens are."""
    parts = urllib.parse.urlsplit(source)
    return "@" in parts.netloc or bool(parts.query)


def _shown(source: str) -> str:
    """The source without what may be secret in an address."""
    if "://" not in source:
        return source
    parts = urllib.parse.urlsplit(source)
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1], query="", fragment="").geturl()
