"""Files by hand for every program: what users, other tools, and broken disks put where a program reads.

Each program of the workflow and each tool gets one spoiled file among sound ones: another value, a key twice, no UTF-8,
a pipe in place of a file. What a program does after it has read everything is cut short where it takes long: a training
ends before its first step, an examination of the machine finds nothing.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import hostile
import made_results
import other_things
import yaml
from mutations import ODD_VALUES, Chance, Mutation, damage, spoil_json

_REPOSITORY = Path(__file__).resolve().parents[2]
_SEED = "results/run/seed0"
_CONFIG = "results/run/config"
_DATA = "--dataset data --labels labels --manifest manifest.json --index labels.json"


class Case(NamedTuple):
    """A program and what it reads.

    Args:
        arguments: its command line; words that start with "out/" are outputs.
        documents: files that it reads, or patterns of which one file is taken.
        passed_over: those of them that are other people's, or of no weight: success is right whatever they hold.
    """

    arguments: str
    documents: Sequence[str]
    passed_over: Sequence[str] = ()


_RESULTS = [f"{_SEED}/{name}.json" for name in ("metrics", "metrics_best", "speed", "provenance")]
_STATUS = ["runs/abababababababab/status.json", "runs/abababababababab/history.jsonl", f"{_SEED}/provenance.json"]
PROGRAMS: Mapping[str, Case] = {
    "make_synthetic": Case("--config synthetic.json --output out/data --index out/data.json", ["synthetic.json"]),
    "convert_labels": Case(
        "--dataset data --manifest manifest.json --index out/labels.json --output out/labels", ["manifest.json"]
    ),
    "create_lists": Case(
        "--manifest manifest.json --index labels.json --output out/lists", ["manifest.json", "labels.json"]
    ),
    "fetch_weights": Case("--config start.json --output out/start.safetensors", ["start.json", "weights.pdparams"]),
    "import_weights": Case(
        "--config speed.json --weights weights.pdparams --downloads out/downloads --record out/record.json "
        "--output out/model.pdparams",
        ["speed.json", "weights.pdparams"],
    ),
    "train": Case(
        f"--config train.json {_DATA} --train-list train.txt --val-list val.txt --threads 1 --runs out/runs "
        "--start-record record.json --backbone start.safetensors "
        "--model out/model.pdparams --history out/history.jsonl --provenance out/provenance.json",
        ["train.json", "manifest.json", "labels.json", "train.txt", "val.txt", "record.json", "start.safetensors"],
    ),
    "evaluate": Case(
        f"--config evaluate.json --weights weights.pdparams {_DATA} --list val.txt --threads 1 --output out/m.json",
        ["evaluate.json", "weights.pdparams", "manifest.json", "labels.json", "val.txt"],
    ),
    "measure_speed": Case(
        f"--config speed.json --weights weights.pdparams --history {_SEED}/history.jsonl --provenance "
        f"{_SEED}/provenance.json --threads 1 --output out/speed.json",
        ["speed.json", "weights.pdparams", f"{_SEED}/history.jsonl", f"{_SEED}/provenance.json"],
    ),
    "report": Case(
        f"--config {_CONFIG}/report.json --results results/run --manifest run_manifest.json --dataset none "
        "--labels none --index none --list run_val.txt --train-list run_train.txt --benchmarks benchmark.tsv "
        "--threads 1 --verdict out/verdict.json --report out/report.html",
        [
            f"{_CONFIG}/report.json",
            "run_manifest.json",
            "run_val.txt",
            *_RESULTS,
            f"{_SEED}/history.jsonl",
            "benchmark.tsv",
        ],
        ["benchmark.tsv"],
    ),
    "predict": Case(
        "--weights weights.pdparams --dataset data --manifest manifest.json --config evaluate.json --threads 1 "
        "--output out/predictions",
        ["weights.pdparams", "manifest.json", "evaluate.json"],
    ),
    "submission": Case(
        "--predictions predictions --manifest manifest.json --output out/submission.zip",
        ["manifest.json", "predictions/*_pred.png"],
    ),
    "export": Case(
        "--config evaluate.json --weights weights.pdparams --threads 1 --output out/exported",
        ["evaluate.json", "weights.pdparams"],
    ),
    "forecast": Case("--config recipe.yaml --device cpu --devices 1", ["recipe.yaml", *_RESULTS[2:]], _RESULTS[2:]),
    "doctor": Case("--config recipe.yaml --device cpu --devices 1 --threads 1 --directory out", ["recipe.yaml"]),
    "recipe_diff": Case("--config recipe.yaml --devices 2", ["recipe.yaml"]),
    "compare": Case(
        "results/run results/other --output out/compare.html",
        [f"{_CONFIG}/report.json", *_RESULTS, f"{_SEED}/history.jsonl", "results/run/verdict.json"],
    ),
    "verify": Case(
        "results/run --resources resources",
        [f"{_CONFIG}/report.json", *_RESULTS, f"{_SEED}/history.jsonl", "results/run/verdict.json"],
    ),
    "summarize": Case(
        "--name study --json out/summary.json --markdown out/summary.md --page out/summary.html "
        "results/run results/other",
        [f"{_CONFIG}/report.json", *_RESULTS, f"{_SEED}/history.jsonl"],
    ),
    "convert_torch_weights": Case("--input theirs.pth --output out/theirs.safetensors", ["theirs.pth"]),
    "model_card": Case("results/run --output out/card.md", ["results/run/verdict.json", f"{_SEED}/provenance.json"]),
    "crate": Case(
        "results/run --license https://creativecommons.org/licenses/by/4.0/",
        ["results/run/verdict.json", f"{_SEED}/provenance.json"],
    ),
    "status": Case(
        "--runs runs --results results",
        _STATUS,
        passed_over=_STATUS,
    ),
    "judge_predictions": Case(
        "--predictions val_predictions --dataset data --processes 1 --output out/metrics.json",
        ["val_predictions/*.png"],
    ),
}

if importlib.util.find_spec("rocrate") is None:
    # The tool says so itself.
    PROGRAMS = {name: case for name, case in PROGRAMS.items() if name != "crate"}


def make_sound(place: Path, dataset: Path, work: Path, weights: Mapping[str, Any]) -> None:
    """All files that the programs read, sound.

    Args:
        dataset, work: what the intake made of a tiny dataset.
        weights: arrays of a whole network, by PaddleSeg's names.
    """
    from stdc import files
    from stdc.published.reference import load_reference
    from stdc.published.verdict import judge
    from stdc.results.folder import Results, read_seed, report_stage
    from stdc.weights import array_files

    place.mkdir()
    shutil.copytree(dataset, place / "data")
    shutil.copytree(work / "labels", place / "labels")
    for name in ("manifest.json", "labels.json", "lists/train.txt", "lists/val.txt"):
        shutil.copyfile(work / name, place / Path(name).name)
    config = yaml.safe_load((_REPOSITORY / "tests" / "workflow" / "tiny.yaml").read_text(encoding="utf-8"))
    source = {"source": "weights.pdparams", "sha256": None}
    model = {"backbone": "stdc1", "pool_counts_padding": False}
    model.update(pretrained={"source": None, "sha256": None}, init_from={"source": None, "sha256": None})
    sections = {
        "model": model,
        "train": {**config["train"], "crop_height": 32, "crop_width": 32, "visualdl": False, "prediction_images": 0},
        "data": {"separator": ","},
        "evaluate": {"protocols": [{"name": "single_scale", "scales": [1.0], "flip": False}], "backend": "paddle"},
        "speed": {"height": 32, "width": 64, "batch": 1, "warmup": 0, "iterations": 2, "backend": "paddle"},
    }
    schema = yaml.safe_load((_REPOSITORY / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
    for name in ("train", "evaluate", "speed"):
        parts = schema["properties"][name]["properties"]
        defaults = {key: part["default"] for key, part in parts.items() if "default" in part}
        sections[name] = {**defaults, **sections[name]}
    files.write_json(place / "train.json", {name: sections[name] for name in ("model", "train", "data")})
    evaluated = {name: sections[name] for name in ("model", "train", "evaluate", "data")}
    files.write_json(place / "evaluate.json", evaluated)
    files.write_json(place / "speed.json", {name: sections[name] for name in ("model", "train", "speed")})
    files.write_json(place / "start.json", {"model": {**model, "init_from": source}})
    files.write_json(place / "synthetic.json", {"synthetic": {**config["synthetic"], "train": 1, "val": 1, "test": 0}})
    (place / "recipe.yaml").write_text(yaml.safe_dump({**config, "name": "made"}), encoding="utf-8")
    array_files.write_pdparams(place / "weights.pdparams", weights)
    array_files.write_safetensors(place / "start.safetensors", weights)
    (place / "theirs.pth").write_bytes(_torch_backbone(weights))
    record = {"key": "model.init_from", "source": "theirs.pdparams", "sha256": "ab" * 32, "checksum": "none"}
    files.write_json(place / "record.json", record)

    frames = [f"frankfurt_000000_{number:06d}" for number in range(3)]
    report = made_results.report_config(report={"overlays": 0})
    files.write_json(place / "run_manifest.json", made_results.manifest(4, 0, frames))
    lists = {split: place / f"run_{split}.txt" for split in ("train", "val")}
    for path in lists.values():
        made_results.write_list(path, frames)
    for name in ("run", "other"):
        results = place / "results" / name
        made_results.write_seed(results / "seed0", 0, frames, (1024, 2048))
        for weights_name in ("model", "best"):
            (results / "seed0" / f"{weights_name}.pdparams").write_bytes(weights_name.encode())
        files.write_json(results / "config" / "report.json", report)
        made_results.tie(results, report, place / "run_manifest.json", lists)
        provenance = json.loads((results / "seed0" / "provenance.json").read_text(encoding="utf-8"))
        run_hash = files.sha256_text(files.canonical_json(provenance["identity"]))
        files.write_json(results / "seed0" / "provenance.json", {**provenance, "run_hash": run_hash})
        made = Results(
            report_stage(report, "report.json"),
            made_results.manifest(4, 0, frames),
            "",
            [read_seed(results / "seed0", 0)],
        )
        files.write_json(results / "verdict.json", judge(made.evidence(), load_reference()))
    (place / "resources" / "made" / "lists-made").mkdir(parents=True)
    shutil.copyfile(place / "run_manifest.json", place / "resources" / "made" / "manifest.json")
    for split, path in lists.items():
        shutil.copyfile(path, place / "resources" / "made" / "lists-made" / f"{split}.txt")
    (place / "benchmark.tsv").write_text("s\tmax_rss\tcpu_time\n1.5\t100.0\t1.0\n", encoding="utf-8")
    run = place / "runs" / ("ab" * 8)
    run.mkdir(parents=True)
    (run / "lock").touch()
    status = {"state": "running", "time": 1.0, "pid": 7, "host": "here", "name": "run", "seed": 0, "iteration": 4}
    files.write_json(run / "status.json", {**status, "iterations": 8, "eta_s": 3.0, "loss": 1.25})
    (run / "history.jsonl").write_text('{"iteration": 4, "loss": 1.25}\n', encoding="utf-8")
    for folder, split, suffix in (("predictions", "test", "_pred"), ("val_predictions", "val", "")):
        (place / folder).mkdir()
        for path in sorted((place / "data").glob(f"gtFine/{split}/*/*_labelIds.png")):
            frame = path.name[: path.name.index("_gtFine")]
            shutil.copyfile(path, place / folder / f"{frame}{suffix}.png")


def _torch_backbone(weights: Mapping[str, Any]) -> bytes:
    """The backbone of a network as the authors' code stores it: torch's container, torch's names of batch norms."""
    norms = {"_mean": "running_mean", "_variance": "running_var"}
    arrays = {}
    for name, array in weights.items():
        if name.startswith("cp.backbone."):
            unit, _, leaf = name[len("cp.backbone.") :].rpartition(".")
            arrays[f"{unit}.{norms.get(leaf, leaf)}"] = array
    tensors, storages = {}, {}
    for number, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        tensors[name] = hostile.Rebuild(hostile._Storage(str(number), array.size), 0, array.shape, strides)
        storages[str(number)] = array.tobytes()
    return hostile.torch_zip(hostile.torch_pickle(tensors), storages)


def spoil(path: Path, chance: Chance) -> Tuple[str, bool]:
    """Spoil a file; what was done, and whether no program may take the file for sound."""
    kinds = ["bytes", "bytes", "folder", "pipe", "device", "loop", "gone", "empty", "no UTF-8", "random", "deep"]
    if path.suffix in (".json", ".yaml"):
        kinds += ["value"] * 12 + ["top", "twice", "literal", "digits", "mark"]
    if path.suffix in (".txt", ".jsonl"):
        kinds += ["line"] * 8
    kind = chance.choice(kinds)
    if kind in OTHER_THINGS:
        path.unlink()
        OTHER_THINGS[kind](path)
        return kind, kind != "gone"
    data = path.read_bytes()
    # A second name of a file that all cases share.
    path.unlink()
    if kind == "value":
        document = yaml.safe_load(data) if path.suffix == ".yaml" else json.loads(data)
        kind = spoil_json(document, chance)
        text = yaml.safe_dump(document) if path.suffix == ".yaml" else json.dumps(document)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return kind, False
    made: Dict[str, Callable[[], bytes]] = {
        "bytes": lambda: damage(data, chance),
        "empty": lambda: b"",
        "no UTF-8": lambda: data[: len(data) // 2] + b"\xff\xfe" + data[len(data) // 2 :],
        "random": lambda: chance.randbytes(4096),
        "deep": lambda: b"[" * 100_000,
        "top": lambda: json.dumps(chance.choice(ODD_VALUES)).encode(),
        "twice": lambda: _twice(data, path.suffix),
        "literal": lambda: data.replace(b": ", b": " + chance.choice((b"NaN, ", b"Infinity, ", b"-Infinity, ")), 1),
        "digits": lambda: b'{"model": ' + b"9" * 10_000 + b"}",
        "mark": lambda: b"\xef\xbb\xbf" + data,
        "line": lambda: _other_line(data, chance),
    }
    path.write_bytes(made[kind]())
    # A history without an event is that of a run that has just begun.
    certain = kind in ("deep", "twice", "digits", "random") or (kind == "empty" and path.suffix != ".jsonl")
    return kind, certain


def _twice(data: bytes, suffix: str) -> bytes:
    """The first key of the document once more, with another value."""
    if suffix == ".yaml":
        first = data.split(b":", 1)[0]
        return data + first + b": {}\n"
    first = data[data.index(b'"') : data.index(b":")]
    return data.replace(b"{", b"{" + first + b": 1, ", 1)


def _other_line(data: bytes, chance: Chance) -> bytes:
    lines = data.split(b"\n")
    lines[chance.randrange(len(lines))] = chance.choice(
        (b"", b"null", b"[]", b'{"iteration": -1}', b'{"iteration": 1e400}', b"NaN", b"x", b"\x1b[31m,\x1b[0m", b"\xff")
    )
    return b"\n".join(lines)


OTHER_THINGS: Dict[str, Callable[[Path], Any]] = {**other_things.OTHER_THINGS, "gone": lambda path: None}


def shorten() -> None:
    """In this process, end programs where their long work begins; they have read everything by then."""
    from stdc.doctor import examination
    from stdc.machine import devices
    from stdc.prediction import export
    from stdc.training import loop

    def ended(*_: object, **__: object) -> Any:
        raise SystemExit(0)

    # Paddle has been imported and told once, for all cases.
    devices.prepare = lambda *_: None
    loop.Trainer.run = ended  # type: ignore[method-assign]
    export.export = ended
    examination.examine = lambda *_: []


def mutation_of(program: str, name: str, path: Path, kind: str, certain: bool) -> Mutation:
    """What a message must name: the file, or what stands in it."""
    stem = path.stem.split("_gtFine")[0]
    words: List[str] = [path.name, stem, str(path)]
    if path.suffix in (".json", ".yaml"):
        # Messages about a value name its key.
        words += ["model", "train", "data", "evaluate", "speed", "synthetic", "protocols", "manifest", "pretrained"]
        words += ["metrics", "provenance", "verdict", "frame", "seed", "resources", "config"]
    return Mutation(f"{program}, {name}: {kind}", words, certain and name not in PROGRAMS[program].passed_over)
