"""The two official zips: verify that they are the published ones, and unpack them without trusting them.

The digest already says what is in a zip. The checks of its entries are a second line of defense, should the table of
digests ever be wrong.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set

from stdc.data.cityscapes import ARCHIVES, HOW_TO_GET, Archive
from stdc.data.layout import refuse_inside, stays_inside
from stdc.errors import InputError, InputErrors, shown
from stdc.files import fsync_folder, open_file, sync_files, write_json, write_text
from stdc.progress import Progress

#: A file in an extracted folder. It says that this program made the folder and may replace it.
MARKER = ".stdc-extracted"

_CHUNK_BYTES = 1 << 20
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_MEGABYTE = 1_000_000
_OWN_PACKING = (
    "download it again, or, where it was packed anew or holds a part, unpack it yourself and name the folder as dataset"
)


class Limits(NamedTuple):
    """What an archive may unpack to. The official ones: 20,000 files, 12 GB, JSON packed to a tenth.

    Args:
        files: entries of an archive.
        bytes: declared bytes of an archive.
        ratio: declared bytes of an entry over packed ones; small entries are free.
    """

    files: int = 100_000
    bytes: int = 40_000_000_000
    ratio: int = 200


DEFAULT_LIMITS = Limits()


def extract_archives(
    folder: Path,
    output: Path,
    index: Path,
    expected: Mapping[str, Archive] = ARCHIVES,
    *,
    limits: Limits = DEFAULT_LIMITS,
    progress: Optional[Callable[[str, int], Progress]] = None,
) -> Dict[str, Any]:
    """Verify the zips in `folder` and unpack them to `output`, a folder of our own.

    The zips are unpacked into a hidden folder beside `output`, which is renamed when it is complete; `index` is written
    last.

    Args:
        expected: name, size and digest of each zip, and the top folder that is taken from it.
        progress: makes a progress line from unit and total.

    Returns:
        What was written to `index`: {"format", "archives": {name: {"bytes", "sha256"}}, "files", "bytes"}.

    Raises:
        InputError: a zip is missing, not the published one, or unsafe; or the disk is too small.
    """
    refuse_inside(output, folder, "the dataset")
    refuse_inside(index, folder, "the index")
    _refuse_foreign(output)
    paths = _find(folder, expected)
    if index.exists():
        index.unlink()
    temporary = output.with_name(f".tmp-{os.getpid()}-{output.name}")
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(output)
    files, size = 0, 0
    try:
        temporary.mkdir()
        for name, archive in expected.items():
            # One open file serves both, so that a file swapped between verifying and unpacking is never unpacked.
            with open_file(paths[name]) as handle:
                _verify(handle, paths[name], archive, progress)
                entries = _safe_entries(handle, paths[name], archive.folder, limits)
                _refuse_full_disk(temporary, sum(entry.file_size for entry in entries), name)
                _unpack(handle, entries, temporary, paths[name], progress)
            files += len(entries)
            size += sum(entry.file_size for entry in entries)
        write_text(temporary / MARKER, "made by extract_dataset; may be deleted and made again\n")
        sync_files(temporary)
        if output.exists():
            shutil.rmtree(output)
        temporary.replace(output)
        fsync_folder(output.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    content = {
        "format": 1,
        "archives": {name: {"bytes": archive.size, "sha256": archive.sha256} for name, archive in expected.items()},
        "files": files,
        "bytes": size,
    }
    write_json(index, content)
    return content


def _refuse_foreign(output: Path) -> None:
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise InputError(f"{shown(output)}: is not a folder; choose another output")
    if output.is_dir() and any(output.iterdir()) and not (output / MARKER).is_file():
        raise InputError(f"{shown(output)}: holds files that extract_dataset did not write; choose another output")


def _remove_left_over(output: Path) -> None:
    """Remove the unfinished folders of killed runs."""
    for path in output.parent.glob(f".tmp-*-{output.name}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def _find(folder: Path, expected: Mapping[str, Archive]) -> Dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{shown(folder)}: no such folder. {HOW_TO_GET}")
    paths = {name: folder / name for name in expected}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        raise InputError(f"{shown(folder)}: {' and '.join(missing)} not in it. {HOW_TO_GET}")
    problems = []
    for name, archive in expected.items():
        found = paths[name].stat().st_size
        if found != archive.size:
            path = paths[name]
            what = (
                f"a zip, but not the published one; {_OWN_PACKING}"
                if zipfile.is_zipfile(path)
                else "the download is incomplete; download it again"
            )
            problems.append(f"{shown(path)}: {found} bytes, expected {archive.size}: {what}")
    if problems:
        raise InputErrors(f"{shown(folder)}: {len(problems)} of {len(expected)} archives are wrong", problems)
    return paths


def _verify(handle: BinaryIO, path: Path, archive: Archive, progress: Optional[Callable[[str, int], Progress]]) -> None:
    line = progress(f"MB of {path.name} verified", archive.size // _MEGABYTE) if progress else None
    digest = hashlib.sha256()
    read = 0
    for chunk in iter(lambda: handle.read(_CHUNK_BYTES), b""):
        digest.update(chunk)
        if line:
            line.step((read + len(chunk)) // _MEGABYTE - read // _MEGABYTE)
        read += len(chunk)
    if line:
        line.finish()
    if digest.hexdigest() != archive.sha256:
        raise InputError(
            f"{shown(path)}: SHA-256 is {digest.hexdigest()}, expected {archive.sha256}: not the published file;"
            f" {_OWN_PACKING}"
        )


def _safe_entries(handle: BinaryIO, path: Path, top: str, limits: Limits) -> List[zipfile.ZipInfo]:
    """The files below the folder `top`. One bad entry, needed or not, and the whole archive is refused."""
    handle.seek(0)
    try:
        with zipfile.ZipFile(handle) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise InputError(f"{shown(path)}: not a sound zip ({shown(error)})") from None
    problems = []
    if len(entries) > limits.files:
        problems.append(f"{len(entries)} entries, more than {limits.files}")
    if sum(entry.file_size for entry in entries) > limits.bytes:
        problems.append(f"unpacks to {sum(entry.file_size for entry in entries)} bytes, more than {limits.bytes}")
    seen: Set[str] = set()
    end = 0
    for entry in sorted(entries, key=lambda one: one.header_offset):
        problem = _entry_problem(entry, seen, limits)
        if entry.header_offset < end:
            # Many entries that share one packed block would let a small file unpack to petabytes.
            problem = problem or "overlaps another entry"
        if problem:
            problems.append(f"{shown(entry.filename)}: {problem}")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size
        seen.add(entry.filename.rstrip("/"))
    # The test of the name comes first, because `is_dir` fails on an empty one.
    wanted = [entry for entry in entries if entry.filename.startswith(f"{top}/") and not entry.is_dir()]
    folders = {name for entry in wanted for name in _folders_of(entry.filename)}
    problems += [f"{shown(entry.filename)}: is a file and a folder" for entry in wanted if entry.filename in folders]
    if not wanted:
        problems.append(f"no file below {top}/")
    if problems:
        raise InputErrors(f"{shown(path)}: not unpacked, {len(problems)} problems", problems)
    return wanted


def _folders_of(name: str) -> Iterator[str]:
    """Every folder that a file lies in: `a` and `a/b` for `a/b/c`."""
    position = name.find("/")
    while position >= 0:
        yield name[:position]
        position = name.find("/", position + 1)


def _entry_problem(entry: zipfile.ZipInfo, seen: Set[str], limits: Limits) -> str:
    name = entry.filename
    # zipfile cuts names at a NUL byte and may replace the separator: judge the name as it stands in the archive.
    if name != entry.orig_filename or "\\" in name or not name.isprintable():
        return "unsafe name"
    body = name[:-1] if name.endswith("/") else name
    if not stays_inside(name) or any(part in ("", ".") for part in body.split("/")) or ":" in name:
        return "unsafe path"
    if body in seen:
        return "occurs twice"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
        return "link" if kind == stat.S_IFLNK else "neither a file nor a folder"
    if entry.flag_bits & _ENCRYPTED:
        return "encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"packed with method {entry.compress_type}, expected stored or deflated"
    if entry.file_size > _MEGABYTE and entry.file_size > limits.ratio * entry.compress_size:
        return f"{entry.compress_size} bytes unpack to {entry.file_size}"
    return ""


def _refuse_full_disk(folder: Path, needed: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{shown(folder.parent)}: {free / 1e9:.1f} GB free, {name} unpacks to {needed / 1e9:.1f} GB; make room"
        )


def _unpack(
    handle: BinaryIO,
    entries: List[zipfile.ZipInfo],
    root: Path,
    path: Path,
    progress: Optional[Callable[[str, int], Progress]],
) -> None:
    line = progress(f"files of {path.name} unpacked", len(entries)) if progress else None
    handle.seek(0)
    with zipfile.ZipFile(handle) as archive:
        for entry in entries:
            target = root.joinpath(*entry.filename.split("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            written = 0
            try:
                # "x": nothing that exists is followed or overwritten. Modes in the zip are not taken over.
                with archive.open(entry) as source, target.open("xb") as sink:
                    for chunk in iter(lambda source=source: source.read(_CHUNK_BYTES), b""):  # type: ignore[misc]
                        written += len(chunk)
                        sink.write(chunk)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                raise InputError(f"{shown(path)}: {shown(entry.filename)} is damaged ({shown(error)})") from None
            if written != entry.file_size:
                raise InputError(
                    f"{shown(path)}: {shown(entry.filename)} holds {written} bytes, its entry says {entry.file_size}"
                )
            if line:
                line.step()
    if line:
        line.finish()
