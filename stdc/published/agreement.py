"""Whether the files of a finished run tell one story.

Scores, provenance, history, manifest, lists, weights and configuration each say something of the same run. Where two of
them differ, at least one belongs to another run or was edited, and no verdict is given. This finds contradictions; it
is no defense against somebody who forges all files alike.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from stdc.errors import InputError
from stdc.evaluation import metrics as official
from stdc.files import sha256_text
from stdc.published.configured_run import ConfiguredRun
from stdc.published.evidence import FIRST_SEEN

#: Tolerance between a stored score and the one recomputed from the integers: both are the same double, or rounded once.
_SAME = 1e-9


@dataclasses.dataclass(frozen=True)
class SeedFiles:
    """The files of one seed, as they were read.

    Attributes:
        folder: where they lie, for messages.
        seed: of the training.
        metrics, best: `metrics.json` and `metrics_best.json`; the second may be missing.
        model_sha256, best_sha256: of `model.pdparams` and `best.pdparams`; None where the file is not there.
        history, provenance: of the training; both None where the weights were given.
        weights: record of the file that the training started from, or that was judged; None where there is none.
    """

    folder: Path
    seed: int
    metrics: Mapping[str, Any]
    best: Optional[Mapping[str, Any]]
    model_sha256: Optional[str]
    best_sha256: Optional[str]
    history: Optional[Sequence[Mapping[str, Any]]]
    provenance: Optional[Mapping[str, Any]]
    weights: Optional[Mapping[str, Any]] = None


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The files of one run.

    Attributes:
        configured: what the configuration says of the run.
        manifest_path, manifest, manifest_sha256: the dataset's manifest.
        list_paths, list_sha256: of the lists "train" and "val", by name; a list that is not given is absent.
        val_frames: names of the frames of the validation list.
        seeds: at least one.
    """

    configured: ConfiguredRun
    manifest_path: Path
    manifest: Mapping[str, Any]
    manifest_sha256: str
    list_paths: Mapping[str, Path]
    list_sha256: Mapping[str, str]
    val_frames: Sequence[str]
    seeds: Sequence[SeedFiles]


def check_agreement(run: RunFiles) -> None:
    """Compare everything that is said twice.

    Raises:
        InputError: names the first pair that differs, both places with what they say, and counts the others.
    """
    problems = list(_problems(run))
    if problems:
        others = f" ({len(problems) - 1} more like this)" if len(problems) > 1 else ""
        raise InputError(
            f"{problems[0]}{others}; they contradict each other, so they are not of one run: make the older one again"
        )


def _problems(run: RunFiles) -> Iterator[str]:
    yield from _manifest(run)
    for seed in run.seeds:
        documents = [("metrics.json", seed.metrics, "model.pdparams", seed.model_sha256)]
        if seed.best is not None:
            documents.append(("metrics_best.json", seed.best, "best.pdparams", seed.best_sha256))
        for name, document, weights, sha256 in documents:
            yield from _scores(run, f"{seed.folder / name}", document, f"{seed.folder / weights}", sha256)
        if seed.provenance:
            yield from _provenance(run, seed, seed.provenance)
        elif seed.provenance is not None:
            yield f"{seed.folder / 'provenance.json'}: missing; {seed.folder / 'model.pdparams'}: trained here"
        if seed.history is not None:
            yield from _history(run, seed)
        yield from _weights(run, seed)


def _pair(first: str, said: Any, second: str, other: Any) -> Iterator[str]:
    """One line where two places differ."""
    if said != other:
        yield f"{first}: {_short(said)}; {second}: {_short(other)}"


def _manifest(run: RunFiles) -> Iterator[str]:
    name = str(run.manifest_path)
    frames: Dict[str, List[str]] = {"train": [], "val": []}
    for entry in run.manifest.get("frames") or ():
        frames.setdefault(entry["split"], []).append(entry["frame"])
    for split in ("train", "val"):
        counted = ((run.manifest.get("splits") or {}).get(split) or {}).get("frames", 0)
        yield from _pair(f"{name}: splits.{split}.frames", counted, "frames listed there", len(frames[split]))
    foreign = sorted(set(run.val_frames) - set(frames["val"]))
    if foreign:
        yield f"{run.list_paths['val']}: {_short(foreign[0])}; {name}: no such validation frame"
    expected = run.configured.expected
    yield from _pair(f"{name}: expected", run.manifest.get("expected"), "configuration: data.expect", expected)


def _scores(
    run: RunFiles, name: str, document: Mapping[str, Any], weights: str, weights_sha256: Optional[str]
) -> Iterator[str]:
    entries = document.get("protocols") or [document]
    main = entries[0]
    for key in ("miou", "confusion", "images", "protocol"):
        yield from _pair(f"{name}: {key}", document.get(key), f"protocols[0].{key}", main.get(key))
    names_sha256 = sha256_text("".join(f"{frame}\n" for frame in sorted(run.val_frames)))
    val_list = str(run.list_paths["val"])
    for key, place, sha256 in (
        ("manifest_sha256", str(run.manifest_path), run.manifest_sha256),
        ("list_sha256", val_list, run.list_sha256["val"]),
    ):
        # Runs of earlier versions state neither of the two.
        yield from _pair(f"{name}: {key}", document.get(key, sha256), place, sha256)
    for entry in entries:
        protocol = entry["protocol"]
        where = f"{name}: protocol {protocol.get('name')}"
        yield from _derived(where, entry)
        yield from _pair(f"{where}: images", entry.get("images"), f"{val_list}: frames", len(run.val_frames))
        yield from _pair(
            f"{where}: image_names_sha256", entry.get("image_names_sha256"), f"{val_list}: its names", names_sha256
        )
        if weights_sha256 is not None:
            yield from _pair(f"{where}: weights_sha256", protocol.get("weights_sha256"), weights, weights_sha256)
    if "per_image" in document:
        frames = [image.get("frame") for image in document["per_image"]]
        if frames != sorted(run.val_frames):
            yield f"{name}: per_image has {len(frames)} frames; {val_list}: other frames, or another order"
    found = [_protocol(entry["protocol"]) for entry in entries]
    asked = [tuple(protocol) for protocol in run.configured.protocols]
    yield from _pair(f"{name}: protocols", found, "configuration: evaluate.protocols", asked)


def _derived(where: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Scores that do not follow from the integers beside them."""
    counted = official.figures(np.array(entry["confusion"], np.int64))
    for key in ("miou", "pixel_accuracy"):
        if key in entry and not _is_same(entry[key], counted[key]):
            yield f"{where}: {key}: {entry[key]}; its confusion matrix: {counted[key]}"
    for key in ("class_iou", "category_iou"):
        for name, value in counted[key].items():
            stored = (entry.get(key) or {}).get(name, value)
            if not _is_same(stored, value):
                yield f"{where}: {key}.{name}: {stored}; its confusion matrix: {value}"


def _is_same(stored: Optional[float], counted: Optional[float]) -> bool:
    if stored is None or counted is None:
        return stored is counted
    return abs(stored - counted) <= _SAME


def _protocol(protocol: Mapping[str, Any]) -> Tuple[str, Tuple[float, ...], bool]:
    scales = protocol.get("scales") or (1.0,)
    return str(protocol.get("name")), tuple(sorted(float(scale) for scale in scales)), bool(protocol.get("flip"))


def _provenance(run: RunFiles, seed: SeedFiles, provenance: Mapping[str, Any]) -> Iterator[str]:
    name = str(seed.folder / "provenance.json")
    made_of = provenance.get("identity") or {}
    inputs = made_of.get("inputs") or {}
    yield from _pair(f"{name}: seed", provenance.get("seed"), "folder of the seed", seed.seed)
    manifest = str(run.manifest_path)
    yield from _pair(f"{name}: manifest_sha256", provenance.get("manifest_sha256"), manifest, run.manifest_sha256)
    yield from _pair(f"{name}: identity.inputs.manifest", inputs.get("manifest"), manifest, run.manifest_sha256)
    for split, sha256 in run.list_sha256.items():
        used = inputs.get(f"{split}_list")
        # Without evaluation during training the validation list plays no part in it.
        if split == "train" or used is not None:
            yield from _pair(f"{name}: identity.inputs.{split}_list", used, str(run.list_paths[split]), sha256)
    wanted = _plain(run.configured.recipe.as_dict())
    network = _plain(dataclasses.asdict(run.configured.network))
    for part, expected in (("recipe", wanted), ("network", network)):
        said = (made_of if part == "network" else provenance).get(part)
        if not isinstance(said, Mapping):
            yield f"{name}: {part}: missing; configuration: another story"
            continue
        for key in sorted({*said, *expected}):
            yield from _pair(f"{name}: {part}.{key}", said.get(key), f"configuration: {key}", expected.get(key))


def _history(run: RunFiles, seed: SeedFiles) -> Iterator[str]:
    name = str(seed.folder / "history.jsonl")
    steps = [int(event["iteration"]) for event in seed.history or ()]
    if steps != sorted(steps):
        yield f"{name}: its iterations do not ascend; it is not the history of one training"
    iterations = run.configured.recipe.schedule.iterations
    yield from _pair(f"{name}: last iteration", max(steps, default=0), "configuration: train.iterations", iterations)


def _weights(run: RunFiles, seed: SeedFiles) -> Iterator[str]:
    """The file that a training started from, or that was judged: the same for all seeds, and the one asked for."""
    name = f"{seed.folder / ('weights.json' if seed.provenance is None else 'provenance.json: start')}: sha256"
    found, first = (one.weights and one.weights.get("sha256") for one in (seed, run.seeds[0]))
    yield from _pair(name, found, f"that of {run.seeds[0].folder}", first)
    if seed.provenance is None or found is None:
        return
    start = run.configured.start
    if start.source is not None and start.sha256 not in (None, FIRST_SEEN):
        key = "init_from" if start.whole else "pretrained"
        yield from _pair(name, found, f"configuration: model.{key}.sha256", start.sha256)


def _plain(value: Any) -> Any:
    """As it comes out of a JSON file."""
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
