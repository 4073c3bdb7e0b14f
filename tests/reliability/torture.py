"""Torture campaign: spoiled datasets, documents, weights, checkpoints, archives and recipes; killed workers, bad disks.

Every case must end in success with a correct result, or in exit code 2 with a line that names the culprit. A traceback,
a hang, a wrong pairing, a changed dataset, an output of a failed program, a character that a terminal obeys, more than
500 MB or 20 s of a processor is a failure of ours. Cases are numbered and depend on (seed, number) alone: `--case N`
shows one again.
"""

# ruff: noqa: E402
# The path comes first: this is a program too.
from __future__ import annotations

import argparse
import collections
import dataclasses
import errno
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import re
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

_TESTS = Path(__file__).resolve().parents[1]
_REPOSITORY = _TESTS.parent
_SCRIPTS = _REPOSITORY / "workflow" / "scripts"
_TOOLS = _REPOSITORY / "tools"
_LIB = _REPOSITORY / "workflow" / "lib"
sys.path[:0] = [str(_REPOSITORY), str(_TESTS), str(_TESTS / "reliability"), str(_SCRIPTS), str(_LIB)]

import cv2
import documents
import hostile
import numpy as np
import recipe_files
import worker_kills
import yaml
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import id2label
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from mutations import ODD_VALUES, Chance, DatasetSpoiler, Mutation, damage, names_of, spoil_json
from PIL import Image
from tiny import make_tiny_dataset

import stdc.data.convert
import stdc.data.inventory
import stdc.weights.reading
from stdc import files, recipe
from stdc.data.archives import extract_archives
from stdc.data.cityscapes import Archive
from stdc.data.dataset import EvalDataset
from stdc.data.entries import read_entries, read_prepared
from stdc.errors import InputError, StdcError
from stdc.machine import ranks
from stdc.machine.heartbeat import Limits
from stdc.training import checkpoints
from stdc.training.agreement import agreed_checkpoint

#: Seconds that a case may take; starting Snakemake, or a worker, on a busy machine takes some.
LIMIT_S = {"recipe": 120.0, "worker": 120.0}
DEFAULT_LIMIT_S = 60.0
#: Of a processor, and beyond what this program holds itself.
MOST_CPU_S, MOST_BYTES = 20.0, 500 << 20
_HERE = Path(__file__).resolve()


class WrongError(AssertionError):
    """The case ended in a way that it must not."""


class Result(NamedTuple):
    """How one case ended.

    Args:
        end: success, refused, or failed.
        why: of a failure.
        cpu_s: of all its processes.
        memory: bytes that the largest of them took beyond what this program holds.
    """

    kind: str
    number: int
    end: str
    mutations: List[str]
    why: str
    seconds: float
    cpu_s: float
    memory: int


def need(condition: object, why: str) -> None:
    if not condition:
        raise WrongError(why)


# ---- running a program


class Run(NamedTuple):
    """What a program left: exit code and messages."""

    code: int
    said: str


def run_script(name: str, *arguments: object) -> Run:
    """Run a program of the workflow or a tool in this process, as it stands."""
    path = next(folder / f"{name}.py" for folder in (_SCRIPTS, _TOOLS) if (folder / f"{name}.py").is_file())
    return run_main(lambda: runpy.run_path(str(path), run_name="__main__"), name, *arguments)


def run_main(main: Callable[[], object], name: str, *arguments: object) -> Run:
    """Run `main` as a program; its messages are kept apart."""
    kept = sys.argv, sys.stderr, sys.stdout
    said = io.StringIO()
    said.fileno = lambda: 2  # type: ignore[method-assign]
    sys.argv = [f"{name}.py", *map(str, arguments)]
    sys.stderr = sys.stdout = said
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv, sys.stderr, sys.stdout = kept
    return Run(code, said.getvalue())


def judge(run: Run, mutations: List[Mutation], what: str, allowed: Tuple[int, ...] = (0, 2)) -> bool:
    """Whether the program succeeded; raises where it ended in a way it must not."""
    need("Traceback" not in run.said, f"{what}: traceback\n{run.said[-3000:]}")
    raw = sorted({sign for sign in run.said if not sign.isprintable() and sign not in "\n\r\t"})
    need(not raw, f"{what}: a terminal gets {raw}")
    need(run.code in allowed, f"{what}: exit code {run.code}\n{run.said[-2000:]}")
    if run.code == 0:
        need(not any(mutation.must_fail for mutation in mutations), f"{what}: taken for sound")
        return True
    culprits = [name for mutation in mutations for name in mutation.culprits]
    said = run.said + ascii(run.said)
    named = any(
        name and (name in said or ascii(name)[1:-1] in said or name.replace("\n", "\\n") in said) for name in culprits
    )
    need(named, f"{what}: names none of {sorted(set(culprits))[:12]}\n{run.said[-2000:]}")
    lines = [line for line in run.said.splitlines() if line.strip()]
    need(lines and len(lines) < 80, f"{what}: {len(lines)} lines of message")
    return False


# ---- what is right, found out independently

_FRAME = re.compile(r"(?P<frame>.+_[0-9]{6}_[0-9]{6})_(leftImg8bit|gtFine_labelTrainIds)\.png", re.DOTALL)


def expected_train_ids(root: Path, frame: str, split: str, source: str) -> np.ndarray:
    """The train ids of a frame according to cityscapesscripts."""
    (stem,) = {
        str(path)[: str(path).index("_gtFine_")]
        for path in root.glob(f"**/gtFine/{split}/*/*")
        if path.name.startswith(frame + "_gtFine_")
    }
    if source == "labelIds":
        ids = np.asarray(Image.open(f"{stem}_gtFine_labelIds.png"))
        table = np.array([id2label[i].trainId if i in id2label else 255 for i in range(256)])
        return np.where(table < 0, 255, table)[ids].astype(np.uint8)
    annotation = Annotation()
    annotation.fromJsonFile(f"{stem}_gtFine_polygons.json")
    return np.asarray(createLabelImage(annotation, "trainIds")).astype(np.uint8)


def check_pairs(root: Path, labels: Path, lists: Path, separator: str = ",", rasters: Optional[str] = None) -> int:
    """Every line pairs a picture with the label of the same frame, split by split; how many there are.

    Args:
        rasters: the label source; where given, every raster is compared with cityscapesscripts'.
    """
    count = 0
    for split in ("train", "val", "test"):
        for line in (lists / f"{split}.txt").read_text(encoding="utf-8-sig").split("\n"):
            if not line.strip():
                continue
            line = line.rstrip("\r")
            image, label = line.split(separator)
            names = [_FRAME.fullmatch(Path(side).name) for side in (image, label)]
            need(all(names) and len({name.group("frame") for name in names if name}) == 1, f"wrong pair: {line}")
            for side in (image, label):
                need(Path(side).parent.parent.name == split, f"{split}: of another split: {line}")
            need((root / image).is_file() and (labels / label).is_file(), f"not there: {line}")
            found = np.asarray(Image.open(labels / label))
            need(found.shape == np.asarray(Image.open(root / image)).shape[:2], f"sizes differ: {line}")
            if rasters and names[0]:
                wanted = expected_train_ids(root, names[0].group("frame"), split, rasters)
                need(np.array_equal(found, wanted), f"raster differs from cityscapesscripts': {line}")
            count += 1
    return count


def snapshot(root: Path) -> Dict[str, Any]:
    """Everything in a folder: names, kinds, contents."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[os.fsencode(path)] = (status.st_mode, status.st_mtime_ns, status.st_size, content)
    return found


# ---- the kinds of cases


class Templates:
    """Sound material, made once, copied for each case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.datasets = {
            "label ids": make_tiny_dataset(folder / "ids"),
            "polygons": make_tiny_dataset(folder / "polygons", label_ids=False, instance_ids=False),
            "wrapped": make_tiny_dataset(folder / "wrapped", wrappers=True, seed=1),
        }
        self.work = folder / "work"
        self.intake(self.datasets["label ids"], self.work)
        generator = np.random.default_rng(0)
        self.arrays = {
            f"stage{index}.{leaf}": generator.standard_normal(shape).astype(np.float32)
            for index in range(4)
            for leaf, shape in (("weight", (4, 3, 3, 3)), ("bias", (4,)), ("_mean", ()))
        }
        self.checkpoints = folder / "checkpoints"
        for iteration in (2, 4, 6):
            arrays = {name: array * iteration for name, array in self.arrays.items()}
            state = {"best": None, "sums": {"loss": 0.1 * iteration}, "summed": 1}
            saved = checkpoints.Checkpoint(iteration, arrays, arrays, state, f'{{"iteration": {iteration}}}\n')
            checkpoints.save(self.checkpoints, saved, "a" * 64, keep=5)
        self.documents = folder / "documents"

    def make_documents(self) -> None:
        """What `case_document` spoils; takes Paddle, so it is made where it is needed."""
        from stdc.machine import devices

        devices.prepare("cpu", 1)
        from stdc.nn.segmentor import build_segmentor
        from stdc.nn.state import state_arrays, with_unused_heads

        weights = with_unused_heads(state_arrays(build_segmentor("stdc1")))
        documents.make_sound(self.documents, self.datasets["label ids"], self.work, weights)

    @staticmethod
    def intake(root: Path, work: Path) -> List[Run]:
        """The three programs, each as far as the one before succeeded."""
        manifest, index = ["--manifest", work / "manifest.json"], ["--index", work / "labels.json"]
        runs = [run_script("check_dataset", "--dataset", root, "--output", work / "manifest.json")]
        if runs[-1].code == 0:
            runs.append(run_script("convert_labels", "--dataset", root, *manifest, *index, "--output", work / "labels"))
        if runs[-1].code == 0 and len(runs) == 2:
            runs.append(run_script("create_lists", *manifest, *index, "--output", work / "lists"))
        return runs


def case_dataset(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A spoiled dataset goes through the whole intake."""
    name = chance.choice(sorted(templates.datasets))
    root = Path(shutil.copytree(templates.datasets[name], place / "data"))
    spoiler = DatasetSpoiler(root, chance)
    mutations = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        try:
            mutations.append(spoiler.spoil())
        except (LookupError, OSError, ValueError, AttributeError):
            # An earlier mutation left nothing for this one.
            continue
    if len(mutations) > 1:
        # One of them may have undone another.
        mutations = [mutation._replace(must_fail=False) for mutation in mutations]
    before = snapshot(root)
    work = place / "work"
    runs = Templates.intake(root, work)
    after = snapshot(root)
    need(before == after, f"the dataset was changed: {set(before.items()) ^ set(after.items())}")
    outputs = ("manifest.json", "labels.json", "lists/test.txt")
    for index, run in enumerate(runs):
        if not judge(run, mutations, ("check_dataset", "convert_labels", "create_lists")[index]):
            need(not (work / outputs[index]).exists(), f"{outputs[index]} stands although its program failed")
            return "refused", mutations
    need(len(runs) == 3, "the chain broke off")
    manifest = json.loads((work / "manifest.json").read_text())
    for entry in manifest["frames"]:
        for kind in ("image", "label", "instance"):
            if entry[kind]:
                data = (root / entry[kind]["path"]).read_bytes()
                need(hashlib.sha256(data).hexdigest() == entry[kind]["sha256"], f"digest of {entry[kind]['path']}")
    pairs = check_pairs(root, work / "labels", work / "lists", rasters=manifest["label_source"])
    labeled = sum(entry["label"] is not None for entry in manifest["frames"])
    pictures = len(list(root.glob("**/leftImg8bit/*/*/*_leftImg8bit.png")))
    need(pairs == labeled, f"{pairs} lines for {labeled} labeled frames")
    need(pictures == len(manifest["frames"]), f"{len(manifest['frames'])} frames of {pictures} pictures")
    return "success", mutations


def case_intermediate(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A file between two programs was edited or damaged."""
    root = templates.datasets["label ids"]
    work = Path(shutil.copytree(templates.work, place / "work"))
    relative = chance.choice(
        ("manifest.json", "manifest.json", "labels.json", "lists/train.txt", "lists/val.txt", "raster")
    )
    path = chance.choice(sorted((work / "labels").rglob("*.png"))) if relative == "raster" else work / relative
    culprits = [path.name, str(path), "manifest", "labels.json", *names_of(path)]
    if path.suffix == ".json" and chance.random() < 0.7:
        document = json.loads(path.read_text())
        what = spoil_json(document, chance)
        path.write_text(json.dumps(document), encoding="utf-8", errors="surrogatepass")
    elif path.suffix == ".txt" and chance.random() < 0.8:
        lines = path.read_text().splitlines()
        what = _spoil_lines(lines, chance)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    else:
        what = "damage"
        path.write_bytes(damage(path.read_bytes(), chance))
    mutation = Mutation(f"{path.relative_to(work)}: {what}", culprits)
    frames = re.findall(r"[a-z]+_\d{6}_\d{6}", what)
    mutations = [mutation._replace(culprits=[*culprits, *frames, "frames", "label raster"])]
    manifest, index = ["--manifest", work / "manifest.json"], ["--index", work / "labels.json"]
    if relative == "manifest.json":
        run = run_script("convert_labels", "--dataset", root, *manifest, *index, "--output", work / "labels")
        if not judge(run, mutations, "convert_labels"):
            left = work / "labels.json"
            stands = left.exists() and json.loads(left.read_text())["manifest_sha256"] == files.sha256_file(path)
            need(not stands, "an index of this manifest stands although convert_labels failed")
            return "refused", mutations
    if relative.endswith(".json"):
        for split in ("train", "val", "test"):
            (work / "lists" / f"{split}.txt").unlink()
        run = run_script("create_lists", *manifest, *index, "--output", work / "lists")
        if not judge(run, mutations, "create_lists"):
            need(list((work / "lists").iterdir()) == [], "lists of a program that failed")
            return "refused", mutations

    def read_everything() -> None:
        # What training and evaluation do first.
        prepared = read_prepared(root, work / "labels", work / "manifest.json", work / "labels.json")
        for split in ("train", "val", "test"):
            path = work / "lists" / f"{split}.txt"
            if path.read_text(encoding="utf-8", errors="replace").strip():
                entries = read_entries(path, split, prepared, ",")
                dataset = EvalDataset(entries, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
                for number, entry in enumerate(entries):
                    image, label, _ = dataset[number]
                    wanted = np.asarray(Image.open(root / entry.image)).transpose(2, 0, 1) / np.float32(255)
                    need(np.abs((wanted - 0.5) / 0.5 - image).max() < 1e-5, f"picture of {entry.frame} differs")
                    need(label is not None and label.shape == image.shape[1:], f"label of {entry.frame}")

    run = run_main(lambda: _explained(read_everything), "read")
    if not judge(run, mutations, "read_entries and samples"):
        return "refused", mutations
    check_pairs(root, work / "labels", work / "lists")
    return "success", mutations


def _explained(main: Callable[[], None]) -> None:
    try:
        main()
    except StdcError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _spoil_lines(lines: List[str], chance: Chance) -> str:
    place = chance.randrange(len(lines))
    image, label = lines[place].split(",")
    other = lines[(place + 1) % len(lines)].split(",")
    kinds: Dict[str, Callable[[], str]] = {
        "label of another frame": lambda: f"{image},{other[1]}",
        "picture of another frame": lambda: f"{other[0]},{label}",
        "columns swapped": lambda: f"{label},{image}",
        "another separator": lambda: f"{image};{label}",
        "one field": lambda: image,
        "three fields": lambda: f"{image},{label},x",
        "a path out of the folder": lambda: f"../../{image},{label}",
        "an absolute path": lambda: f"/etc/passwd,{label}",
        "a line twice": lambda: f"{lines[place]}\n{lines[place]}",
        "nonsense": lambda: str(chance.choice(ODD_VALUES)),
        "carriage return": lambda: lines[place] + "\r",
        "spaces around": lambda: f"  {lines[place]}  ",
        "byte order mark": lambda: "\ufeff" + lines[place],
        "not there": lambda: f"{image.replace('0', '7')},{label.replace('0', '7')}",
        "label ids": lambda: f"{image},{label.replace('labelTrainIds', 'labelIds')}",
        "nothing": lambda: "",
    }
    what = chance.choice(sorted(kinds))
    lines[place] = kinds[what]()
    return f"{what} in line {place + 1}"


def case_weights(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A damaged or hostile weights file."""
    from stdc.weights import array_files

    arrays = templates.arrays
    kind = chance.choice(("pdparams", "pdparams", "safetensors", "tar", "torch zip", "torch old", "hostile", "bomb"))
    if kind == "bomb":
        return _bomb(place, chance)
    path = place / ("w.safetensors" if kind == "safetensors" else "w.pdparams")
    if kind == "hostile":
        chosen = chance.choice(list(hostile.running(str(place / "marker"))))
        path.write_bytes(damage(chosen[1], chance) if chance.random() < 0.5 else chosen[1])
    elif kind == "safetensors":
        array_files.write_safetensors(path, arrays)
    elif kind.startswith("torch"):
        storages = {str(number): array.tobytes() for number, array in enumerate(arrays.values())}
        tensors = {
            name: hostile.Rebuild(
                hostile._Storage(str(number), array.size),
                0,
                array.shape,
                tuple(stride // 4 for stride in array.strides),
            )
            for number, (name, array) in enumerate(arrays.items())
        }
        structure = hostile.torch_pickle(tensors)
        counts = {str(number): array.size for number, array in enumerate(arrays.values())}
        packed = (
            hostile.torch_zip(structure, storages)
            if kind == "torch zip"
            else hostile.torch_legacy(structure, storages, counts)
        )
        path.write_bytes(packed)
    else:
        array_files.write_pdparams(path, arrays)
        if kind == "tar":
            import tarfile

            # Without times, so that a case is the same each time it is played.
            entry = tarfile.TarInfo("STDC/model.pdparams")
            entry.size = path.stat().st_size
            packed = gzip.GzipFile(str(place / "w.tar.gz"), "wb", mtime=0)
            with packed, tarfile.open(fileobj=packed, mode="w") as archive, path.open("rb") as content:
                archive.addfile(entry, content)
            path = place / "w.tar.gz"
    if kind != "hostile":
        names = {re.sub(r"running_", "_", name) for name in arrays}
        read = stdc.weights.reading.read_weights(path)
        need({re.sub(r"running_", "_", name) for name in read} <= names and read, "a sound file reads otherwise")
        path.write_bytes(damage(path.read_bytes(), chance))
    try:
        found = stdc.weights.reading.read_weights(path)
    except InputError as error:
        need(
            path.name in str(error) and "\n" not in str(error) and len(str(error)) < 600, f"message: {str(error)[:700]}"
        )
        end = "refused"
    else:
        # No checksum inside: that is what model.pretrained.sha256 is for. What is read is numbers all the same.
        need(kind != "hostile" or not found or True, "")
        for name, array in found.items():
            need(isinstance(name, str) and isinstance(array, np.ndarray) and array.dtype.kind in "biuf", f"{name!r}")
        need(kind not in ("tar",) or sorted(found) == sorted(arrays), "an archive with a checksum reads otherwise")
        end = "success"
    need(not (place / "marker").exists(), "PICKLED CODE RAN")
    return end, [Mutation(f"{kind} damaged", [])]


#: What reading one weights file may take.
WEIGHTS_LIMIT_S, WEIGHTS_LIMIT_MB = 20.0, 500


def _bomb(place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """Kilobytes that ask for gigabytes or hours, in any of the containers; read under limits of the kernel's."""
    name, data = chance.choice(list(hostile.amplifiers(chance.choice((500, 20_000, 100_000)))))
    container = chance.choice(("pdparams", "torch zip", "torch old", "tar"))
    path = place / ("w.tar.gz" if container == "tar" else "w.pdparams")
    if container == "torch zip":
        data = hostile.torch_zip(data, {}, zipfile.ZIP_DEFLATED)
    elif container == "torch old":
        data = hostile.torch_legacy(data, {}, {})
    elif container == "tar":
        data = hostile.packed_tar("STDC/model.pdparams", data)
    path.write_bytes(data)
    end = hostile.ends(path, WEIGHTS_LIMIT_S, WEIGHTS_LIMIT_MB)
    need(not end, f"{name} in {container}: {end}")
    return "refused", [Mutation(f"bomb: {name}", [])]


def case_checkpoint(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """Damaged checkpoints are skipped with a word, and never loaded."""
    folder = Path(shutil.copytree(templates.checkpoints, place / "checkpoints"))
    touched, whats = set(), []
    for _ in range(chance.choice((1, 1, 2, 3))):
        target = chance.choice(sorted(path for path in folder.iterdir() if path.is_dir()))
        files_in = sorted(path for path in target.iterdir() if path.is_file())
        touched.add(target.name)
        kind = chance.choice(("damage", "damage", "drop", "rename", "json", "mix", "litter", "copy", "file"))
        whats.append(f"{target.name}: {kind}")
        if kind == "drop" and files_in:
            chance.choice(files_in).unlink()
        elif kind == "rename":
            name = chance.choice(("00000009", "9", "00000001x", ".tmp-1-00000008", "٠٠٠٠٠٠٠٨"))
            if not (folder / name).exists():
                touched.add(target.rename(folder / name).name)
        elif kind == "json" and (target / "manifest.json").exists():
            document = json.loads((target / "manifest.json").read_text())
            spoil_json(document, chance)
            (target / "manifest.json").write_text(json.dumps(document), errors="surrogatepass")
        elif kind == "mix":
            other = chance.choice(sorted(folder.glob("[0-9]*/model.safetensors")))
            (target / "model.safetensors").write_bytes(other.read_bytes())
        elif kind == "litter":
            (target / "x").write_bytes(b"litter")
            (folder / ".DS_Store").write_bytes(b"")
        elif kind == "copy" and not (folder / "00000010").exists():
            touched.add(Path(shutil.copytree(target, folder / "00000010")).name)
        elif kind == "file" and files_in:
            shutil.rmtree(target)
            target.write_bytes(b"a file")
        elif files_in:
            path = chance.choice(files_in)
            path.write_bytes(damage(path.read_bytes(), chance))
    said: List[str] = []
    found = checkpoints.load_newest(folder, "a" * 64, said.append)
    untouched = sorted(int(path.name) for path in templates.checkpoints.iterdir() if path.name not in touched)
    if found is None:
        need(not untouched, f"checkpoint {untouched} is sound and was not taken: {said}")
        return "refused", [Mutation(what, []) for what in whats]
    need(not untouched or found.iteration >= untouched[-1], f"took {found.iteration}, {untouched} are sound: {said}")
    need(found.iteration in (2, 4, 6) and found.state["sums"] == {"loss": 0.1 * found.iteration}, "another state")
    need(found.history == f'{{"iteration": {found.iteration}}}\n', "another history")
    for arrays in (found.model, found.optimizer):
        need(sorted(arrays) == sorted(templates.arrays), "other names")
        for name, array in templates.arrays.items():
            need(np.array_equal(arrays[name], array * found.iteration), f"{name} of {found.iteration} differs")
    for line in said:
        need("skipping a damaged checkpoint" in line and "\n" not in line, line)
    return "success", [Mutation(what, []) for what in whats]


def case_archive(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """Damaged zips, and hostile ones, with a table that believes them."""
    root = templates.datasets["label ids"]
    downloads = place / "downloads"
    downloads.mkdir()
    expected = {}
    hostile_entry = ""
    for name, tree in (("gtFine_trainvaltest.zip", "gtFine"), ("leftImg8bit_trainvaltest.zip", "leftImg8bit")):
        with zipfile.ZipFile(downloads / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((root / tree).rglob("*.*")):
                archive.write(path, str(path.relative_to(root)))
            if chance.random() < 0.25:
                hostile_entry = chance.choice(
                    (
                        "../x.png",
                        "/tmp/x.png",
                        "gtFine/../../x.png",
                        "gtFine\\x.png",
                        "C:/x.png",
                        "gtFine/./x.png",
                        "link",
                        "bomb",
                    )
                )
                entry = zipfile.ZipInfo(hostile_entry)
                if hostile_entry == "link":
                    entry = zipfile.ZipInfo(f"{tree}/link")
                    entry.external_attr = 0o120777 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, bytes(50 << 20) if hostile_entry == "bomb" else b"/etc/passwd")
        data = (downloads / name).read_bytes()
        if chance.random() < 0.7:
            data = damage(data, chance)
            (downloads / name).write_bytes(data)
        # Sometimes the published digest, sometimes a table that was made for the damaged file.
        expected[name] = Archive(len(data), hashlib.sha256(data).hexdigest(), tree)
    mutation = Mutation(f"zips damaged, hostile entry {hostile_entry!r}", ["trainvaltest.zip", "downloads"])
    output, index = place / "out" / "dataset", place / "out" / "dataset.json"
    run = run_main(lambda: _explained(lambda: void(extract_archives(downloads, output, index, expected))), "extract")
    outside = [
        path
        for path in place.rglob("*")
        if path.is_file() and downloads not in path.parents and place / "out" not in path.parents
    ]
    need(outside == [], f"written elsewhere: {outside}")
    if not judge(run, [mutation], "extract_dataset"):
        need(not output.exists() and not index.exists(), "something stands although the archives were refused")
        return "refused", [mutation]
    need(not hostile_entry, f"the hostile entry {hostile_entry!r} was taken")
    for path in output.rglob("*.*"):
        if path.is_file() and path.name != ".stdc-extracted":
            need(path.read_bytes() == (root / path.relative_to(output)).read_bytes(), f"{path} differs")
    return "success", [mutation]


def void(_: object) -> None:
    """For callables that return something nobody wants."""


def case_stage(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """The section `train` of a stage's JSON with odd values: a recipe, or a message that names the key."""
    train = dict(yaml.safe_load((_REPOSITORY / "config" / "config.yaml").read_text())["train"])
    fields = sorted(field.name for part in recipe.PARTS.values() for field in dataclasses.fields(part))
    key = chance.choice([*fields, "preset"])
    value = chance.choice(ODD_VALUES)
    train[key] = value
    mutation = Mutation(f"train.{key}: {str(value)[:40]!r}", [key, "train"])

    def resolve() -> None:
        made = recipe.resolve(train)
        made.schedule.per_device_batch(1)
        files.canonical_json(made.as_dict())
        found = made.as_dict()[key]
        need(found == found, f"NaN was taken for train.{key}")

    run = run_main(lambda: _explained(resolve), "train")
    return ("success" if judge(run, [mutation], "recipe") else "refused"), [mutation]


def case_document(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A file by hand for one of the programs or tools."""
    name = chance.choice(sorted(documents.PROGRAMS))
    case = documents.PROGRAMS[name]
    spoiled = chance.choice(case.documents)
    room = place / "room"
    # Names for the files of the template, so that nothing is copied; what is spoiled is written anew.
    shutil.copytree(templates.documents, room, copy_function=os.link, symlinks=True)
    (room / "out").mkdir()
    spoiled = str(chance.choice(sorted(room.glob(spoiled))).relative_to(room))
    what, certain = documents.spoil(room / spoiled, chance)
    mutation = documents.mutation_of(name, spoiled, room / spoiled, what, certain)
    before = snapshot(room / "data")
    documents.shorten()
    os.chdir(room)
    run = run_script(name, *case.arguments.split())
    need(snapshot(room / "data") == before, "the dataset was changed")
    return ("success" if judge(run, [mutation], f"{mutation.what}, {name}") else "refused"), [mutation]


#: Texts that YAML reads as something else than they look, or that blow up; each is put into a sound recipe.
_SYNTAX: Dict[str, Callable[[str, Chance], str]] = {
    "a key twice": lambda text, chance: text + f"{chance.choice(_keys(text))}: 1\n",
    "an inner key twice": lambda text, chance: text.replace("  iterations: 4", "  iterations: 4\n  iterations: 5"),
    "an alias in itself": lambda text, chance: text.replace("train:\n", "train: &t\n  x: *t\n"),
    "an alias bomb": lambda text, chance: (
        text
        + "a0: &a0 [1,1,1,1,1,1,1,1,1]\n"
        + "".join(_level(number) for number in range(1, chance.choice((6, 8, 30))))
    ),
    "a merge bomb": lambda text, chance: (
        text + "m0: &m0 {a: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40))
    ),
    "a template": lambda text, chance: f'__use_yte__: true\n?f\'{{open("marker", "w")}}\': 1\n{text}',
    "a tag": lambda text, chance: text + chance.choice(_TAGS) + "\n",
    "many digits": lambda text, chance: text.replace(
        "seeds: [0]", f"seeds: [{'9' * chance.choice((40, 5000, 200_000))}]"
    ),
    "nested deeply": lambda text, chance: (
        text + "x: " + chance.choice(("[", "{a: ")) * chance.choice((30, 5000, 300_000))
    ),
    "an octal number": lambda text, chance: text.replace("iterations: 4", "iterations: 0100"),
    "a number of minutes": lambda text, chance: text.replace("iterations: 4", "iterations: 1:30"),
    "a list as a key": lambda text, chance: text + "? [a, b]\n: 1\n",
    "two documents": lambda text, chance: text + "---\nname: b\n",
    "a list at the top": lambda text, chance: "- a\n- b\n",
    "nothing": lambda text, chance: chance.choice(("", "\n", "# nothing\n", "null\n", "{}\n")),
    "a long text": lambda text, chance: text.replace("name: tiny", "name: " + "x" * chance.choice((10_000, 3_000_000))),
    "many values": lambda text, chance: text + "x: [" + "1, " * 50_000 + "1]\n",
    "control characters": lambda text, chance: text.replace("name: tiny", f'name: "a{chance.choice(_ESCAPES)}b"'),
    "a tab": lambda text, chance: text.replace("  iterations", "\titerations"),
    "an anchor without a name": lambda text, chance: text.replace("name: tiny", "name: & tiny"),
    "an alias of nothing": lambda text, chance: text + "x: *nowhere\n",
}
_TAGS = (
    "x: !!python/object/apply:os.system ['touch marker']",
    "x: !!python/name:os.system",
    "x: !<tag:yaml.org,2002:python/object/new:os.system> [touch marker]",
    "x: !!set {a, b}",
    "x: !!binary aGVsbG8=",
    "!!python/module:os : 1",
    "x: !mine 1",
)
#: As YAML writes them between double quotes.
_ESCAPES = (r"\n", r"\e[31m", r"\u202e", r"\x9b", r"\u2028", r"\0", r"\ud800", r"\u200b")


def _keys(text: str) -> List[str]:
    return re.findall(r"^[a-z]+(?=:)", text, re.MULTILINE)


def _level(number: int) -> str:
    return f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 9)}]\n"


def case_syntax(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A recipe whose text is no plain YAML, before Snakemake reads it."""
    text = (_TESTS / "workflow" / "tiny.yaml").read_text(encoding="utf-8")
    what = chance.choice([*sorted(_SYNTAX), "bytes", "something else than a file"])
    path = place / "tiny.yaml"
    os.chdir(place)
    if what == "bytes":
        path.write_bytes(damage(text.encode(), chance))
    elif what == "something else than a file":
        what = chance.choice(sorted(documents.OTHER_THINGS))
        documents.OTHER_THINGS[what](path)
    else:
        path.write_bytes(_SYNTAX[what](text, chance).encode("utf-8", "surrogatepass"))
    must_fail = what not in ("bytes", "control characters", "a long text", "an anchor without a name", "nothing")
    run = run_main(lambda: recipe_files.refuse_bad(["--configfile", str(path)]), "snakemake")
    need(not (place / "marker").exists(), "THE RECIPE RAN")
    mutation = Mutation(what, ["tiny.yaml"], must_fail)
    return ("success" if judge(run, [mutation], f"recipe with {what}") else "refused"), [mutation]


def case_rank(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """Two ranks look for the checkpoint to start from while a disk fails one of them, or a checkpoint is damaged.

    Both must take the same one, or the run must end; nothing may be thrown away.
    """
    folder = Path(shutil.copytree(templates.checkpoints, place / "checkpoints"))
    whats = []
    if chance.random() < 0.5:
        spoiled = chance.choice(sorted(folder.glob("*/*")))
        spoiled.write_bytes(damage(spoiled.read_bytes(), chance))
        whats.append(f"{spoiled.relative_to(folder)} damaged")
    number = chance.choice((errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE, errno.ETIMEDOUT))
    failing, nth = chance.choice((0, 1, 1)), chance.randrange(12)
    whats.append(f"rank {failing}: read {nth} fails with {errno.errorcode[number]}")
    before = snapshot(folder)
    (place / "meet").mkdir()
    answers = [_rank_answer(folder, place, rank, nth if rank == failing else -1, number) for rank in (0, 1)]
    found = []
    for child, reader in answers:
        with os.fdopen(reader, "rb") as handle:
            found.append(json.loads(handle.read() or b'"died"'))
        os.waitpid(child, 0)
    need(snapshot(folder) == before, f"checkpoints were changed: {found}")
    ends = [answer for answer in found if isinstance(answer, str)]
    if ends:
        told = any(end.startswith(("OSError", "PermissionError", "TimeoutError")) for end in ends)
        need(told and all(not end.startswith("died") for end in ends), f"ended otherwise: {found}")
        need(len(ends) == 2, f"one rank went on alone: {found}")
        return "refused", [Mutation(what, []) for what in whats]
    need(found[0] == found[1], f"the ranks start from {found}")
    need(found[0] in (None, 2, 4, 6), f"a checkpoint that nobody saved: {found}")
    return "success", [Mutation(what, []) for what in whats]


def _rank_answer(folder: Path, place: Path, rank: int, failing: int, number: int) -> Tuple[int, int]:
    """Start a rank; (its process, where its answer comes: an iteration, null, or the error as text)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        os.environ.update({ranks.WATCHER_VARIABLE: str(os.getppid()), ranks.FOLDER_VARIABLE: str(place)})
        os.environ.update({"PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2"})
        reads = 0
        read = Path.read_bytes

        def reading(path: Path) -> bytes:
            nonlocal reads
            reads += 1
            if reads == failing + 1:
                raise OSError(number, os.strerror(number), str(path))
            return read(path)

        Path.read_bytes = reading  # type: ignore[method-assign]
        limits = Limits(5.0, 5.0, 5.0)
        try:
            chosen = agreed_checkpoint(folder, "a" * 64, log=void, limits=limits, check=void)
            answer: Any = None if chosen is None else chosen.iteration
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        with os.fdopen(writer, "wb") as handle:
            handle.write(json.dumps(answer).encode())
    finally:
        os._exit(0)


def case_worker(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A data worker is killed at a random instant of a large transfer."""
    problems = worker_kills.kill_in_loader(place, chance)
    need(not problems, "; ".join(problems))
    return "refused", [Mutation("a worker killed", [])]


def case_recipe(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A recipe file with one thing wrong, given to Snakemake."""
    text = (_TESTS / "workflow" / "tiny.yaml").read_text(encoding="utf-8")
    kind = chance.choice(("value", "value", "value", "unknown", "damage", "drop", "tag"))
    config = yaml.safe_load(text)
    path = place / "tiny.yaml"
    must_fail = False
    if kind == "damage":
        path.write_bytes(damage(text.encode(), chance))
        culprits = ["tiny.yaml", "Config file", "configuration", *re.findall(r"[a-z_]+", text)]
        what = "damage"
    elif kind == "tag":
        path.write_text(text + f'report: !!python/object/apply:os.system ["touch {place}/marker"]\n')
        culprits, what, must_fail = ["configuration", "tiny.yaml"], "a tag that makes objects", True
    else:
        parent, key = config, chance.choice(sorted(config))
        if isinstance(config[key], dict) and chance.random() < 0.8:
            parent, key = config[key], chance.choice(sorted(config[key]))
        if kind == "drop":
            del parent[key]
            what = f"drop {key}"
        elif kind == "unknown":
            parent[f"{key}_"] = 1
            key, must_fail = f"{key}_", True
            what = f"unknown key {key}"
        else:
            parent[key] = chance.choice([value for value in ODD_VALUES if value != "\ud800"])
            what = f"{key}: {str(parent[key])[:40]!r}"
            must_fail = isinstance(parent[key], float) and parent[key] != parent[key]
        culprits = [str(key), "tiny.yaml"]
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
    python = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(_REPOSITORY / ".venv" / "workflow" / "bin" / "python")
    command = [python, "-m", "snakemake", "--snakefile", str(_REPOSITORY / "Snakefile"), "--dry-run", "--quiet", "all"]
    command += ["--configfile", str(path)]
    result = subprocess.run(
        command,
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "STDC_PYTHON": sys.executable},
    )
    need(not (place / "marker").exists(), "THE TAG RAN")
    mutation = Mutation(what, culprits, must_fail)
    run = Run(result.returncode, result.stderr + result.stdout)
    if "not valid JSON or YAML" in run.said or "in load_configfile" in run.said:
        # No YAML at all: Snakemake ends, in its own way, before this project has the word.
        need(run.code == 1 and kind in ("damage", "tag"), f"snakemake: exit code {run.code}")
        return "refused", [mutation]
    end = judge(run, [mutation], "snakemake")
    return ("success" if end else "refused"), [mutation]


KINDS: Dict[str, Tuple[Callable[[Templates, Path, Chance], Tuple[str, List[Mutation]]], int]] = {
    # name: (function, share of the cases)
    "dataset": (case_dataset, 8),
    "document": (case_document, 8),
    "intermediate": (case_intermediate, 4),
    "weights": (case_weights, 4),
    "checkpoint": (case_checkpoint, 3),
    "archive": (case_archive, 3),
    "stage": (case_stage, 2),
    "syntax": (case_syntax, 3),
    "recipe": (case_recipe, 1),
    "rank": (case_rank, 1),
    "worker": (case_worker, 1),
}


# ---- the campaign


def run_case(templates: Templates, seed: int, number: int, only: Optional[str], folder: Path) -> Result:
    """One case in a forked child with a time limit."""
    chance = random.Random(f"{seed} {number}")
    wheel = [name for name, (_, share) in KINDS.items() for _ in range(share)]
    kind = only or wheel[number % len(wheel)]
    place = folder / f"case{number}"
    place.mkdir()
    started = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        answer: Any = ("failed", [], "no answer")
        try:
            os.setpgid(0, 0)
            try:
                end, mutations = KINDS[kind][0](templates, place, chance)
                answer = (end, [mutation.what for mutation in mutations], "")
            except WrongError as error:
                answer = ("failed", [], str(error))
            except BaseException:
                answer = ("failed", [], traceback.format_exc())
            with os.fdopen(writer, "wb") as handle:
                handle.write(pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    own = _resident_bytes()
    answer, used = _answer(child, reader, LIMIT_S.get(kind, DEFAULT_LIMIT_S))
    cpu_s, memory = used.ru_utime + used.ru_stime, max(0, used.ru_maxrss * 1024 - own)
    if answer[0] != "failed" and (cpu_s > MOST_CPU_S or memory > MOST_BYTES):
        answer = ("failed", answer[1], f"took {cpu_s:.1f} s of a processor and {memory >> 20} MB: {answer[1]}")
    if answer[0] != "failed":
        shutil.rmtree(place, ignore_errors=True)
    return Result(kind, number, *answer, time.monotonic() - started, round(cpu_s, 2), memory)


def _resident_bytes() -> int:
    """What this process holds and a forked child begins with: files that are mapped do not count."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) * 1024


def _answer(child: int, reader: int, limit_s: float) -> Tuple[Any, Any]:
    """What the child says, and what it used, with its own children."""
    data, deadline = b"", time.monotonic() + limit_s
    with os.fdopen(reader, "rb", buffering=0) as handle:
        while True:
            ready, _, _ = select.select([handle], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                os.killpg(child, signal.SIGKILL)
                return ("failed", [], f"hangs: no end after {limit_s:.0f} s"), os.wait4(child, 0)[2]
            chunk = handle.read(1 << 16)
            if not chunk:
                break
            data += chunk
    _, status, used = os.wait4(child, 0)
    if not data:
        return ("failed", [], f"died with wait status {status}"), used
    # From our own child.
    return pickle.loads(data), used


def campaign(
    seed: int,
    cases: int,
    minutes: float,
    only: Optional[str] = None,
    first: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Dict[str, Any]:
    """Run cases until there are enough of them or time is up; the result as JSON values."""
    cv2.setNumThreads(1)
    started = time.monotonic()
    results: List[Result] = []
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        templates = Templates(Path(folder, "templates"))
        if only in (None, "document"):
            templates.make_documents()
        for number in range(first, first + cases):
            if time.monotonic() - started > 60 * minutes:
                say(f"time is up after {len(results)} cases")
                break
            result = run_case(templates, seed, number, only, Path(folder))
            results.append(result)
            if result.end == "failed":
                # As a replay would see it: the mutations are told by a second, identical run of the generator.
                say(f"case {number} ({result.kind}): {result.why}")
            elif len(results) % 50 == 0:
                say(f"{len(results)} cases, {sum(one.end == 'failed' for one in results)} failed")
    return {
        "seed": seed,
        "cases": len(results),
        "success": sum(result.end == "success" for result in results),
        "refused": sum(result.end == "refused" for result in results),
        "failed": sum(result.end == "failed" for result in results),
        "seconds": round(time.monotonic() - started, 1),
        "kinds": {
            kind: dict(collections.Counter(result.end for result in results if result.kind == kind)) for kind in KINDS
        },
        "slowest_s": round(max((result.seconds for result in results), default=0.0), 2),
        "most_cpu_s": round(max((result.cpu_s for result in results), default=0.0), 2),
        "most_memory_mb": max((result.memory for result in results), default=0) >> 20,
        "mutations": dict(collections.Counter(what.split(" ")[0] for result in results for what in result.mutations)),
        "failures": [result._asdict() for result in results if result.end == "failed"],
        "properties": {},
    }


def _counting(check: Callable[[Any], None], tried: List[int]) -> Callable[[Any], None]:
    def counted(value: Any) -> None:
        tried.append(1)
        check(value)

    return counted


def made_up_values(seed: int, examples: int) -> Tuple[Dict[str, int], List[str]]:
    """Properties of the readers over values that hypothesis makes up: how many each, and what did not hold."""
    import hypothesis
    import properties

    counts: Dict[str, int] = {}
    failures = []
    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for check, strategy in properties.PROPERTIES:
        tried: List[int] = []
        try:
            settings(hypothesis.seed(seed)(hypothesis.given(strategy)(_counting(check, tried))))()
        except Exception:
            failures.append(f"{check.__name__}: {traceback.format_exc()[-3000:]}")
        counts[check.__name__] = len(tried)
    return counts, failures


def table(result: Dict[str, Any]) -> str:
    """The result for a person."""
    lines = [f"{'kind':<14}{'cases':>7}{'success':>9}{'refused':>9}{'failed':>8}"]
    for kind, ends in result["kinds"].items():
        counts = [ends.get(end, 0) for end in ("success", "refused", "failed")]
        if sum(counts):
            lines.append(f"{kind:<14}{sum(counts):>7}{counts[0]:>9}{counts[1]:>9}{counts[2]:>8}")
    total = [result[end] for end in ("cases", "success", "refused", "failed")]
    lines.append(f"{'all':<14}{total[0]:>7}{total[1]:>9}{total[2]:>9}{total[3]:>8}")
    lines += [f"{name}: {count} values" for name, count in result["properties"].items()]
    lines.append(
        f"seed {result['seed']}, {result['seconds']:.0f} s, slowest case {result['slowest_s']:.1f} s, at most "
        f"{result['most_cpu_s']:.1f} s of a processor and {result['most_memory_mb']} MB of memory for a case"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=20260901, help="decides every case (default %(default)s)")
    parser.add_argument("--cases", type=int, default=600, help="how many (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit of the campaign (default %(default)s)")
    parser.add_argument(
        "--examples", type=int, default=500, help="made-up values for each property of a reader (default %(default)s)"
    )
    parser.add_argument("--only", choices=sorted(KINDS), help="this kind of cases alone")
    parser.add_argument("--case", type=int, help="this case alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    options = parser.parse_args()
    first, cases = (0, options.cases) if options.case is None else (options.case, 1)
    result = campaign(
        options.seed, cases, options.minutes, options.only, first, lambda line: print(line, file=sys.stderr, flush=True)
    )
    if options.examples and options.only is None and options.case is None:
        result["properties"], failures = made_up_values(options.seed, options.examples)
        result["failed"] += len(failures)
        result["failures"] += failures
        print("\n".join(failures), file=sys.stderr)
    if options.json:
        files.write_json(options.json, result)
    print(table(result))
    return int(result["failed"] > 0 or result["cases"] == 0)


if __name__ == "__main__":
    sys.exit(main())
