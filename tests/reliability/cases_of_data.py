"""Spoiled datasets, archives, and files between the programs of the intake."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import id2label
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from judging import explained, judge, need, run_main, run_script, snapshot, void
from mutations import ODD_VALUES, Chance, DatasetSpoiler, Mutation, damage, names_of, spoil_json
from PIL import Image
from sound_material import Templates

from stdc import files
from stdc.data.archives import extract_archives
from stdc.data.cityscapes import Archive
from stdc.data.dataset import EvalDataset
from stdc.data.entries import read_entries, read_prepared

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


# ---- the kinds of cases


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

    run = run_main(lambda: explained(read_everything), "read")
    if not judge(run, mutations, "read_entries and samples"):
        return "refused", mutations
    check_pairs(root, work / "labels", work / "lists")
    return "success", mutations


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
    run = run_main(lambda: explained(lambda: void(extract_archives(downloads, output, index, expected))), "extract")
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
