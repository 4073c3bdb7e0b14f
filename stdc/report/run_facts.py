"""Where the figures come from, as pairs of label and value: evaluation protocol, dataset, provenance."""

from __future__ import annotations

import shlex
from typing import Any, Dict, List, Mapping, Optional, Tuple

from stdc.report.sharing import environment, path_free_argument, without_secrets
from stdc.results.folder import DATASETS, Results, SeedResult, main_protocol
from stdc.results.formatting import NONE, TIMES, number, numbers, plain, short_hash
from stdc.results.segments import seconds_of, segments_of, training_seconds
from stdc.units import clock_text, size_text

#: Label and value.
Fact = Tuple[str, str]


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
    stage = results.stage
    facts: List[Fact] = [("source", DATASETS.get(stage.dataset_kind, stage.dataset_kind))]
    for split in ("train", "val", "test"):
        if split in splits:
            taken = f", {stage.run.subset[split]} of them used (data.subset)" if split in stage.run.subset else ""
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


def provenance_of(seed: SeedResult, shared: bool) -> Dict[str, Any]:
    """Code, machine, command and times of one training; what is not known is left out.

    Args:
        shared: for the page that may be shared, which names no place of the user's machine.
    """
    provenance = seed.provenance
    device = provenance.get("device") or {}
    hardware = provenance.get("hardware") or {}
    facts = [
        ("commit", _commit_text(provenance)),
        ("device", _device_text(device, hardware)),
        ("threads per process", plain(hardware.get("threads"))),
        ("data workers per device", plain(hardware.get("workers"))),
        ("started", plain(provenance.get("started"))),
        ("finished", plain(provenance.get("finished"))),
        ("time spent training", _seconds_text(training_seconds(provenance))),
        ("run", plain(provenance.get("run_hash"))),
        ("manifest sha256", plain(provenance.get("manifest_sha256"))),
        ("weights sha256", plain(main_protocol(seed.metrics).get("weights_sha256"))),
        ("command", command_text(provenance.get("command"), shared)),
    ]
    variables = device.get("environment") if isinstance(device, dict) else None
    return {
        "seed": seed.seed,
        "facts": [(label, value) for label, value in facts if value != NONE],
        "segments": segment_rows(provenance),
        "versions": sorted((provenance.get("versions") or {}).items()),
        "environment": sorted(environment(variables, shared).items()) if isinstance(variables, dict) else [],
    }


def segment_rows(provenance: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """What each process did, for a training that was stopped and went on; nothing for one that ran through."""
    segments = segments_of(provenance)
    if len(segments) < 2:
        return []
    return [
        {
            "started": plain(segment.get("started")),
            "finished": plain(segment.get("finished")),
            "seconds": seconds_of(segment),
            "from": segment.get("from_iteration"),
            "to": segment.get("to_iteration"),
            "commit": short_hash(segment.get("commit")) + (", changed" if segment.get("dirty") else ""),
            "device": _device_text(segment.get("device"), {}),
        }
        for segment in segments
    ]


def results_date(results: Results) -> Optional[str]:
    """The day on which the last training ended, as YYYY-MM-DD; the page tells no other time."""
    ends = [str(seed.provenance["finished"]) for seed in results.seeds if seed.provenance.get("finished")]
    return max(ends)[:10] if ends else None


def command_text(command: Any, shared: bool) -> str:
    """A command line as it can be typed, without secrets; without places of the user's machine where it is shared."""
    if isinstance(command, (list, tuple)):
        words = [without_secrets(str(word)) for word in command]
        return " ".join(
            shlex.quote(word) for word in ([path_free_argument(word) for word in words] if shared else words)
        )
    return plain(command if command is None else without_secrets(str(command)))


def _commit_text(provenance: Mapping[str, Any]) -> str:
    commits = {(segment.get("commit"), bool(segment.get("dirty"))) for segment in segments_of(provenance)}
    commits.add((provenance.get("commit"), bool(provenance.get("dirty"))))
    texts = [f"{commit or 'not known'}{', with uncommitted changes' if dirty else ''}" for commit, dirty in commits]
    return "; ".join(sorted(texts))


def _device_text(device: Any, recorded: Mapping[str, Any]) -> str:
    if not isinstance(device, dict):
        return plain(device)
    if not device:
        return NONE
    count = recorded.get("devices")
    return f"{f'{count} {TIMES} ' if count else ''}{device.get('kind', '')} {device.get('name', '')}".strip()


def _seconds_text(seconds: Optional[float]) -> str:
    return NONE if seconds is None else clock_text(seconds)
