"""Where the weights come from that the configuration names, looked at before any program runs.

A source is a file, an address, or a name in stdc/weights/registry.yaml. `stdc.weights.sources` asks the same questions
on the programs' side of the wall between the two interpreters.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

import dataset_folder

FIRST_SEEN = "first-seen"
KEYS = ("pretrained", "init_from")
#: Where files placed by hand are taken from: beside the output of `fetch_weights`.
DOWNLOADS = Path("resources/weights/downloads")
#: What starts a password, a query, parameters or a fragment.
_SECRETIVE = re.compile(r"[@?;#]")


def start_of(model: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """The section that names what a training starts from; None for random weights."""
    return next((model[key] for key in KEYS if model[key]["source"] is not None), None)


def local_file(source: str, registry: Mapping[str, Any]) -> Path:
    """The file that a source means on this machine, there or not: its own, or the one placed for its name."""
    if source in registry:
        return DOWNLOADS / registry[source]["file"]
    return dataset_folder.local_path(source)


def fingerprint(source: str, registry: Mapping[str, Any]) -> str:
    """Changes with the local file; empty where there is none, as for an address."""
    return dataset_folder.file_fingerprint(str(local_file(source, registry)))


_SECRET = (
    "this address carries a name, a password, a query or a fragment, which would be written into the results; download "
    "the file by hand and give its path"
)


def judge_problems(weights: Optional[str]) -> Iterator[str]:
    """What is wrong with the key `weights`."""
    if weights is not None and has_secret(weights):
        yield _SECRET


def problems(model: Mapping[str, Any], registry: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    """(key below `model`, what is wrong), for all that can be told without opening a file."""
    if all(model[key]["source"] is not None for key in KEYS):
        yield "init_from", "given beside model.pretrained; a training starts from one of them"
    for key in KEYS:
        source, sha256 = model[key]["source"], model[key]["sha256"]
        if source is None:
            # A checksum may stay when a recipe's source is set to null on the command line.
            continue
        if has_secret(source):
            # The address itself is not repeated: messages end up in logs.
            yield f"{key}.source", _SECRET
        elif source in registry:
            yield from _entry_problems(key, model, registry[source])
        elif re.match(r"https?://", source, re.IGNORECASE) and sha256 is None:
            yield f"{key}.sha256", f"null; a download needs the file's checksum ({FIRST_SEEN} believes the first one)"


def _entry_problems(key: str, model: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[Tuple[str, str]]:
    source = model[key]["source"]
    if entry["network"] != model["backbone"]:
        yield f"{key}.source", f"{source} are weights of {entry['network']}; model.backbone is {model['backbone']}"
    elif entry["whole"] and key == "pretrained":
        yield f"{key}.source", f"{source} is a whole trained network; model.init_from goes on from one"
    elif not entry["whole"] and key == "init_from":
        yield f"{key}.source", f"{source} is a backbone alone; model.pretrained starts from one"
    elif entry["sha256"] is None and model[key]["sha256"] is None:
        yield (
            f"{key}.sha256",
            f"null, and no checksum of {source} is public ({entry['why']}); give one that you trust, or {FIRST_SEEN} "
            "to believe the first download and refuse any other later",
        )


def has_secret(source: str) -> bool:
    """Whether a source has parts where secrets are. A file of that name that exists is none."""
    if "://" not in source and dataset_folder.local_path(source).exists():
        return False
    return bool(_SECRETIVE.search(source))
