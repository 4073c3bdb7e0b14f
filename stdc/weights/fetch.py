"""Given weights, from wherever the configuration says to a safetensors file under our names.

Everything lies in the folder of the output, `resources/weights` in a run: files placed or downloaded by a registry's
name in `downloads/`, and in `first-seen/` one file per source with the checksum that was believed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import os
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Tuple

from stdc import files
from stdc.arrays import Arrays
from stdc.errors import InputError
from stdc.progress import Log
from stdc.weights import array_files
from stdc.weights.downloads import LIMITS, Limits, download
from stdc.weights.reading import read_weights
from stdc.weights.sources import FIRST_SEEN, Published, is_address, registry, shown_source


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Weights that the configuration names.

    Attributes:
        key: the section that names them, for messages: "model.pretrained", "model.init_from" or "weights".
        source: a path, an address, or a name in the registry.
        sha256: of the file; "first-seen" to believe the first one; None: the registry's, or none for a local file.
        backbone: "stdc1" or "stdc2"; weights of the other one are refused.
        whole: a whole network is meant, not a backbone.
    """

    key: str
    source: str
    sha256: Optional[str]
    backbone: str
    whole: bool

    @property
    def source_key(self) -> str:
        """The key of the source itself, for messages."""
        return self.key if self.key == "weights" else f"{self.key}.source"


@dataclasses.dataclass(frozen=True)
class Fetched:
    """What stands behind fetched weights, for the provenance.

    Attributes:
        key, source: as `Wanted` has them; without what may be secret.
        sha256: of the file.
        checksum: what it was held against: "given", "registry", "first-seen", or "none" for a local file.
    """

    key: str
    source: str
    sha256: str
    checksum: str


def start_of(model: Mapping[str, Any]) -> Wanted:
    """What the section `model` of a configuration starts from.

    Raises:
        InputError: nothing, or two things.
    """
    given = [key for key in ("pretrained", "init_from") if (model.get(key) or {}).get("source") is not None]
    if not given:
        raise InputError("model.pretrained.source, model.init_from.source: null; there is nothing to fetch")
    if len(given) > 1:
        raise InputError("model.pretrained, model.init_from: both given; a training starts from one of them")
    (key,) = given
    section = model[key]
    return Wanted(f"model.{key}", section["source"], section.get("sha256"), model["backbone"], key == "init_from")


def judged(source: str, backbone: str) -> Wanted:
    """Weights to be judged as they are: the key `weights`.

    What is downloaded without a public checksum is believed at first sight: its own SHA-256 stands beside every figure.
    """
    entry = registry().get(source)
    if entry is not None:
        sha256: Optional[str] = entry.sha256 or FIRST_SEEN
    else:
        sha256 = FIRST_SEEN if is_address(source, "weights") else None
    return Wanted("weights", source, sha256, backbone, whole=True)


def fetch(wanted: Wanted, output: Path, log: Log, limits: Limits = LIMITS) -> Fetched:
    """`fetch_network` or `fetch_backbone`, whichever is meant."""
    return (fetch_network if wanted.whole else fetch_backbone)(wanted, output, log, limits)


def fetch_backbone(wanted: Wanted, output: Path, log: Log, limits: Limits = LIMITS) -> Fetched:
    """Write a backbone's parameters as safetensors.

    Raises:
        InputError: unreachable, another checksum, damaged, a whole network, or weights of another one.
    """
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_backbone, state_arrays

    arrays, fetched = _read(wanted, output.parent, log, limits)
    model = build_segmentor(wanted.backbone)
    load_backbone(model, arrays, shown_source(wanted.source))
    array_files.write_safetensors(output, state_arrays(model.cp.backbone))
    return fetched


def fetch_network(wanted: Wanted, output: Path, log: Log, limits: Limits = LIMITS) -> Fetched:
    """Write a whole network's parameters as safetensors; heads of other class counts are left out and named.

    Raises:
        InputError: unreachable, another checksum, damaged, a backbone alone, or weights of another network.
    """
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_initial, state_arrays

    arrays, fetched = _read(wanted, output.parent, log, limits)
    model = build_segmentor(wanted.backbone)
    dropped = load_initial(model, arrays, shown_source(wanted.source))
    if dropped:
        log(f"other classes than ours, so these layers start from random weights: {', '.join(dropped)}")
    state = state_arrays(model)
    array_files.write_safetensors(output, {name: state[name] for name in state if name not in dropped})
    return fetched


def _read(wanted: Wanted, folder: Path, log: Log, limits: Limits) -> Tuple[Arrays, Fetched]:
    entry = registry().get(wanted.source)
    against = "none" if wanted.sha256 is None else FIRST_SEEN if wanted.sha256 == FIRST_SEEN else "given"
    if entry is not None and entry.sha256 is not None:
        against = "registry"
    with obtained(wanted, folder, log, limits) as path:
        arrays = read_weights(path)
        return arrays, Fetched(wanted.key, shown_source(wanted.source), files.sha256_file(path), against)


@contextlib.contextmanager
def obtained(wanted: Wanted, folder: Path, log: Log, limits: Limits = LIMITS) -> Iterator[Path]:
    """The file with weights that are wanted, its checksum compared; a download is deleted afterwards.

    Args:
        folder: for downloads and remembered checksums.
    Raises:
        InputError: not there, unreachable, or another checksum; says what to do, also without a network.
    """
    entry = registry().get(wanted.source)
    if entry is not None:
        _check_entry(wanted, entry)
    expected = _expected(wanted, entry)
    placed = folder / "downloads" / entry.file if entry else Path(wanted.source).expanduser()
    with contextlib.ExitStack() as stack:
        if entry is None and not is_address(wanted.source, f"{wanted.source_key}"):
            if not placed.exists():
                raise InputError(f"{wanted.source_key}: {shown_source(wanted.source)}: no such file{_names(wanted)}")
            path = placed
        elif entry is not None and placed.is_file():
            log(f"{entry.name}: {placed}, which was placed there")
            path = placed
        else:
            path = stack.enter_context(_downloaded(wanted, entry, folder=folder, placed=placed, log=log, limits=limits))
        if path.is_file():
            sha256 = files.sha256_file(path)
            _compare(wanted, entry, expected=expected, sha256=sha256, folder=folder, log=log)
            log(f"{shown_source(wanted.source)}: SHA-256 {sha256}")
        yield path


def _names(wanted: Wanted) -> str:
    """Names of the registry that would fit, for somebody who mistyped one."""
    if any(character in wanted.source for character in "/.\\"):
        return ""
    fitting = [one.name for one in registry().values() if (one.network, one.whole) == (wanted.backbone, wanted.whole)]
    return f", and no published weights of that name; there are {', '.join(fitting)}"


def _check_entry(wanted: Wanted, entry: Published) -> None:
    """Raise where the registry already shows that these weights do not fit."""
    if entry.network != wanted.backbone:
        raise InputError(
            f"{wanted.source_key}: {entry.name} are weights of {entry.network}; model.backbone is {wanted.backbone}"
        )
    if entry.whole and not wanted.whole:
        raise InputError(
            f"{wanted.source_key}: {entry.name} is a whole trained network; model.init_from goes on from one"
        )
    if wanted.whole and not entry.whole:
        raise InputError(f"{wanted.source_key}: {entry.name} is a backbone alone; model.pretrained starts from one")


def _expected(wanted: Wanted, entry: Optional[Published]) -> Optional[str]:
    """The checksum to hold the file against, or FIRST_SEEN; None: a local file without one."""
    given = wanted.sha256
    if entry is not None:
        if given not in (None, FIRST_SEEN, entry.sha256) and entry.sha256 is not None:
            raise InputError(f"{wanted.key}.sha256: {given}; {entry.name} has {entry.sha256} ({entry.why})")
        given = entry.sha256 or given
        if given is None:
            raise InputError(
                f"{wanted.key}.sha256: null, and no checksum of {entry.name} is public ({entry.why}); give one that "
                f"you trust, or {FIRST_SEEN} to believe the first download and refuse any other later"
            )
    elif is_address(wanted.source, f"{wanted.source_key}"):
        if given is None:
            raise InputError(
                f"{wanted.key}.sha256: needed for a download ({FIRST_SEEN} believes the first one); "
                "a local file may do without"
            )
        if given == FIRST_SEEN and not wanted.source.lower().startswith("https://"):
            raise InputError(
                f"{wanted.key}.sha256: {FIRST_SEEN} needs https, so that nobody on the way answers instead"
            )
    return given


@contextlib.contextmanager
def _downloaded(
    wanted: Wanted, entry: Optional[Published], *, folder: Path, placed: Path, log: Log, limits: Limits
) -> Iterator[Path]:
    address = entry.address if entry else wanted.source
    by_hand = f"place the file as {placed}" if entry else "download it elsewhere and give its path"
    random = "" if wanted.whole else "; or start from random weights on purpose: model.pretrained.source: null"
    if address is None:
        raise InputError(
            f"{wanted.source_key}: {wanted.source} cannot be downloaded by a program ({entry.why if entry else ''}); "
            f"{by_hand}{random}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    name = entry.file if entry else "download"
    for left in folder.glob(files.temporary_path(name).name.replace(str(os.getpid()), "*")):
        # Temporary files here are left by a killed download: only one run at a time downloads into this folder.
        left.unlink()
    temporary = files.temporary_path(folder / name)
    log(f"downloading {shown_source(address)}")
    try:
        try:
            download(address, temporary, limits)
        except InputError as error:
            raise InputError(f"{error}; {by_hand}{random}") from None
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _compare(
    wanted: Wanted, entry: Optional[Published], *, expected: Optional[str], sha256: str, folder: Path, log: Log
) -> None:
    if expected is None:
        return
    if expected != FIRST_SEEN:
        if sha256 != expected.lower():
            who = "the registry" if entry is not None and entry.sha256 else f"{wanted.key}.sha256"
            raise InputError(f"{shown_source(wanted.source)}: SHA-256 is {sha256}, {who} says {expected}")
        return
    record = folder / "first-seen" / f"{hashlib.sha256(wanted.source.encode()).hexdigest()[:16]}.json"
    if record.exists():
        seen = files.read_json(record)
        if not isinstance(seen, dict) or seen.get("sha256") != sha256:
            raise InputError(
                f"{shown_source(wanted.source)}: SHA-256 is {sha256}, another one than when it was first seen; {record}"
                " says which and when. Delete that file only if you know why the weights changed"
            )
        return
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    files.write_json(record, {"source": shown_source(wanted.source), "sha256": sha256, "first_seen": now})
    log(f"{wanted.source}: first seen with SHA-256 {sha256}; remembered in {record}")
