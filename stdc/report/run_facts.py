"""Where the figures come from, as pairs of label and value: evaluation protocol, dataset, provenance."""

from __future__ import annotations

import datetime
from typing import Any, Dict, List, Mapping, Tuple

from stdc.report.formatting import NONE, TIMES, number, numbers, plain, short_hash
from stdc.report.results_folder import Results, SeedResult, main_protocol
from stdc.units import size_text

#: Label and value.
Fact = Tuple[str, str]

DATASETS = {
    "synthetic": "a generated mini-Cityscapes",
    "archives": "Cityscapes archives",
    "folder": "a Cityscapes-format folder",
}


def protocol_line(metrics: Mapping[str, Any]) -> List[str]:
    """How the figures were evaluated: the parts of one line."""
    protocol = main_protocol(metrics)
    return [
        f"{metrics['images']} whole images of {size_text(protocol.get('size'))}",
        f"scale {numbers(protocol.get('scales'))}",
        "flip" if protocol.get("flip") else "no flip",
        str(protocol.get("precision")),
        str(protocol.get("backend")),
        f"weights {short_hash(protocol.get('weights_sha256'))}",
        "official rule: integer counts, classes that do not occur left out",
    ]


def dataset_facts(results: Results) -> List[Fact]:
    """Source, frames, sizes and hash of the dataset."""
    manifest = results.manifest
    splits = manifest.get("splits") or {}
    subset = results.config["data"].get("subset") or {}
    facts: List[Fact] = [("source", DATASETS.get(results.config["dataset_kind"], results.config["dataset_kind"]))]
    for split in ("train", "val", "test"):
        if split in splits:
            taken = f", {subset[split]} of them used (data.subset)" if subset.get(split) is not None else ""
            facts.append((split, f"{number(int(splits[split].get('frames', 0)))} frames{taken}"))
    facts.append(("image sizes", ", ".join(size_text(size) for size in manifest.get("sizes") or ()) or NONE))
    facts.append(("labels from", str(manifest.get("label_source", NONE))))
    expected = "the official counts by city" if manifest.get("expected") == "cityscapes" else "the layout only"
    facts.append(("checked against", expected))
    facts.append(("manifest sha256", results.manifest_sha256))
    return facts


def city_counts(manifest: Mapping[str, Any]) -> List[Fact]:
    """Frames by city, one row per split."""
    rows: List[Fact] = []
    for split, entry in (manifest.get("splits") or {}).items():
        cities = ", ".join(f"{city} {frames}" for city, frames in sorted((entry.get("cities") or {}).items()))
        rows.append((str(split), cities))
    return rows


def provenance_of(seed: SeedResult) -> Dict[str, Any]:
    """Code, machine, command and times of one training; what is not known is left out."""
    provenance = seed.provenance
    device = provenance.get("device") or {}
    hardware = provenance.get("hardware") or {}
    dirty = provenance.get("dirty")
    command = provenance.get("command")
    facts = [
        ("commit", f"{provenance.get('commit') or 'not known'}{', with uncommitted changes' if dirty else ''}"),
        ("device", _device_text(device, hardware)),
        ("threads per process", plain(hardware.get("threads"))),
        ("data workers per device", plain(hardware.get("workers"))),
        ("started", plain(provenance.get("started"))),
        ("finished", plain(provenance.get("finished"))),
        ("duration", _duration(provenance.get("started"), provenance.get("finished"))),
        ("run", plain(provenance.get("run_hash"))),
        ("manifest sha256", plain(provenance.get("manifest_sha256"))),
        ("weights sha256", plain(main_protocol(seed.metrics).get("weights_sha256"))),
        ("command", " ".join(map(str, command)) if isinstance(command, list) else plain(command)),
    ]
    versions = provenance.get("versions")
    return {
        "seed": seed.seed,
        "facts": [(label, value) for label, value in facts if value != NONE],
        "versions": sorted(versions.items()) if isinstance(versions, dict) else [],
        "environment": sorted((device.get("environment") or {}).items()) if isinstance(device, dict) else [],
    }


def _device_text(device: Any, hardware: Mapping[str, Any]) -> str:
    if not isinstance(device, dict):
        return plain(device)
    if not device:
        return NONE
    count = hardware.get("devices")
    return f"{f'{count} {TIMES} ' if count else ''}{device.get('kind', '')} {device.get('name', '')}".strip()


def _duration(started: Any, finished: Any) -> str:
    try:
        spent = datetime.datetime.fromisoformat(finished) - datetime.datetime.fromisoformat(started)
    except (TypeError, ValueError):
        return NONE
    return str(spent)
