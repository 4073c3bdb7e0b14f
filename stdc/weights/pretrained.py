"""ImageNet weights of the backbone: from a path or URL, checked, without executing pickled code."""

from __future__ import annotations

import contextlib
import errno
import http.client
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Callable, Iterator, Optional

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.weights import array_files
from stdc.weights.reading import read_weights

#: Largest download, and largest unpacked archive; this network's weights have at most 60 MB.
_MAX_BYTES = 512 << 20
_TIMEOUT_S = 60.0
#: Deadline for the whole download. The socket timeout alone restarts with every byte that arrives.
_LIMIT_S = 3600.0
_CHUNK_BYTES = 1 << 20


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
        arrays = read_weights(path)
    array_files.write_safetensors(output, _checked(arrays, backbone, _shown(source)))
    log(f"{len(arrays)} arrays from {_shown(source)} (SHA-256 {found})")


def _checked(arrays: Arrays, backbone: str, source: str) -> Arrays:
    """The backbone's own parameters, all of them and of the right shapes."""
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_backbone, state_arrays

    model = build_segmentor(backbone)
    load_backbone(model, arrays, source)
    return state_arrays(model.cp.backbone)


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
