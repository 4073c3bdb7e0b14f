"""Ways to spoil files and folders. Each takes a random generator, says what it did and what a message should name."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
from cityscapesscripts.helpers.labels import id2label
from PIL import Image

#: Values that code which expects another type or range trips over.
ODD_VALUES: Sequence[Any] = (
    None, True, False, 0, -1, 1 << 70, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "0", "nan", "true",
    "../../etc/passwd", "/etc/passwd", "a\nb", "\u202etxt", "\ud800", "\0", "x" * 5000, [], {}, [[]], [None], {"a": 1},
    [1, 2, 3], "Straße", "a b;$(touch x)'\"", "*", "~", "{wildcard}", "%s%n",
)  # fmt: skip


class Mutation(NamedTuple):
    """One thing that was done.

    Args:
        what: for a reader of the results.
        culprits: a message about it must hold one of these.
        must_fail: success afterwards would be wrong.
    """

    what: str
    culprits: List[str]
    must_fail: bool = False


Chance = random.Random


def names_of(path: Path) -> List[str]:
    """What a message may call a file of a dataset: its name, its frame, its folders."""
    stem = path.name.split("_leftImg8bit")[0].split("_gtFine")[0]
    return [path.name, stem, path.parent.name, path.parent.parent.name]


# ---- bytes


def damage(data: bytes, chance: Chance) -> bytes:
    """The bytes after an accident."""
    kind = chance.choice(("cut", "flip", "flip", "zeros", "insert", "remove", "repeat", "tail", "swap"))
    place = chance.randrange(max(len(data), 1))
    length = min(chance.choice((1, 2, 7, 64, 512)), max(len(data) - place, 1))
    if kind == "cut":
        return data[:place]
    if kind == "flip":
        flipped = bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 5))):
            if flipped:
                flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        return bytes(flipped)
    if kind == "zeros":
        return data[:place] + bytes(length) + data[place + length :]
    if kind == "insert":
        return data[:place] + chance.randbytes(length) + data[place:]
    if kind == "remove":
        return data[:place] + data[place + length :]
    if kind == "repeat":
        return data[:place] + data[place : place + length] * 2 + data[place + length :]
    if kind == "tail":
        return data + chance.randbytes(length)
    return data[place:] + data[:place]


# ---- JSON


def spoil_json(value: Any, chance: Chance) -> str:
    """Change one place inside a JSON value, in place; what was done."""
    parent, key = _place(value, chance)
    if parent is None:
        return "nothing to change"
    kinds = ["odd", "odd", "odd", "delete", "retype"]
    if isinstance(parent, list):
        kinds += ["duplicate", "swap"]
    else:
        kinds += ["rename", "extra"]
    kind = chance.choice(kinds)
    if kind == "odd":
        parent[key] = chance.choice(ODD_VALUES)
    elif kind == "delete":
        del parent[key]
    elif kind == "retype":
        parent[key] = [parent[key]] if chance.random() < 0.5 else str(parent[key])
    elif kind == "duplicate":
        parent.append(json.loads(json.dumps(parent[key])))
    elif kind == "swap":
        other = chance.randrange(len(parent))
        parent[key], parent[other] = parent[other], parent[key]
    elif kind == "rename":
        parent[f"{key}_"] = parent.pop(key)
    else:
        parent[chance.choice(("extra", "", "__class__", "path"))] = chance.choice(ODD_VALUES)
    return f"{kind} at {key!r}"


def _place(value: Any, chance: Chance) -> Any:
    """A random (container, key)."""
    parent, key = None, None
    here = value
    while isinstance(here, (dict, list)) and here:
        parent = here
        key = chance.choice(list(here)) if isinstance(here, dict) else chance.randrange(len(here))
        here = parent[key]
        if chance.random() < 0.15:
            break
    return parent, key


# ---- pictures


def write_png(path: Path, pixels: np.ndarray, color: int, depth: int = 8, interlaced: bool = False) -> None:
    """A PNG written by hand: any kind, and interlaced, which Pillow cannot write.

    Args:
        pixels: (H, W) or (H, W, channels); whole bytes per sample.
    """
    height, width = pixels.shape[:2]
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for column, row, column_step, row_step in passes if interlaced else [(0, 0, 1, 1)]:
        part = pixels[row::row_step, column::column_step]
        if part.size:
            raw += b"".join(b"\0" + line.astype(">u2" if depth == 16 else "u1").tobytes() for line in part)
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    chunks = [(b"IHDR", head)] + ([(b"PLTE", bytes(range(256)) * 3)] if color == 3 else [])
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(data)


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def _repack(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


# ---- a dataset folder


class DatasetSpoiler:
    """Spoils a dataset folder.

    Args:
        root: free to break.
        chance: decides everything.
    """

    def __init__(self, root: Path, chance: Chance) -> None:
        self.root, self.chance = root, chance

    def spoil(self) -> Mutation:
        """One random mutation."""
        methods = sorted(name for name in dir(self) if name.startswith("do_"))
        mutation: Mutation = getattr(self, self.chance.choice(methods))()
        return mutation

    def _file(self, pattern: str = "*") -> Path:
        found = sorted(path for path in self.root.rglob(pattern) if path.is_file() and not path.is_symlink())
        if not found:
            raise LookupError(pattern)
        return self.chance.choice(found)

    def _image(self) -> Path:
        return self._file("*_leftImg8bit.png")

    def _label(self) -> Path:
        return self._file("*_gtFine_labelIds.png")

    def _annotation(self) -> Path:
        return self._file("*_gtFine_polygons.json")

    def do_drop(self) -> Mutation:
        path = self._file()
        path.unlink()
        return Mutation(f"drop {path.name}", names_of(path))

    def do_drop_a_folder(self) -> Mutation:
        folders = sorted(path for path in self.root.rglob("*") if path.is_dir())
        path = self.chance.choice(folders)
        shutil.rmtree(path)
        return Mutation(f"drop folder {path.name}", [path.name, path.parent.name, *_trees()])

    def do_damage(self) -> Mutation:
        path = self._file()
        path.write_bytes(damage(path.read_bytes(), self.chance))
        return Mutation(f"damage {path.name}", names_of(path))

    def do_empty(self) -> Mutation:
        path = self._file()
        path.write_bytes(b"")
        return Mutation(f"empty {path.name}", names_of(path))

    def do_swap_contents(self) -> Mutation:
        one = self._file()
        other = self._file("*" + one.name[one.name.index("_0") + 15 :])
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)
        return Mutation(f"swap {one.name} and {other.name}", names_of(one) + names_of(other))

    def do_resize(self) -> Mutation:
        path = self._file("*.png")
        picture = Image.open(path)
        width, height = picture.size
        size = self.chance.choice(((height, width), (width // 2, height // 2), (width, height + 1), (1, 1)))
        picture.resize(size, Image.Resampling.NEAREST).save(path)
        return Mutation(f"resize {path.name} to {size}", names_of(path))

    def do_duplicate(self) -> Mutation:
        path = self._file()
        name = path.name.replace("_000000_", "_000077_").replace("_000001_", "_000078_")
        shutil.copyfile(path, path.with_name(name))
        return Mutation(f"duplicate {path.name} as {name}", [*names_of(path), *names_of(path.with_name(name))])

    def do_rename(self) -> Mutation:
        path = self._file()
        name = self.chance.choice(
            (
                path.name.upper(),
                path.name.replace("_", "-"),
                path.name.replace("000", "00", 1),
                "Zürich" + path.name[path.name.index("_") :],
                path.name.replace("_", " _", 1),
                path.name + ".bak",
                "x" + path.name,
                path.name.replace("_gtFine_", "_").replace("_leftImg8bit", ""),
                path.name.replace("0", "\u0660"),
                "a\nb" + path.name,
                "\x1b[31m" + path.name,
            )
        )
        path.rename(path.with_name(name))
        return Mutation(f"rename {path.name} to {name!r}", [*names_of(path), *names_of(path.with_name(name)), name])

    def do_rename_to_no_utf8(self) -> Mutation:
        path = self._file()
        path.rename(path.with_name(os.fsdecode(b"\xff\xfe") + path.name))
        return Mutation(f"rename {path.name} to bytes that are no UTF-8", names_of(path))

    def do_move(self) -> Mutation:
        path = self._file()
        folders = sorted({other.parent for other in self.root.rglob("*") if other.is_file()})
        target = self.chance.choice(folders)
        shutil.move(str(path), str(target / path.name))
        return Mutation(f"move {path.name} to {target}", names_of(path) + names_of(target / path.name))

    def do_swap_trees(self) -> Mutation:
        images, truths = sorted(self.root.glob("**/leftImg8bit"))[0], sorted(self.root.glob("**/gtFine"))[0]
        images.rename(images.with_name("swap"))
        truths.rename(truths.with_name("leftImg8bit"))
        images.with_name("swap").rename(images.with_name("gtFine"))
        return Mutation("swap the two trees", [*_trees(), "train", "val", "test"], True)

    def do_swap_splits(self) -> Mutation:
        tree = self.chance.choice(sorted(path for path in self.root.rglob("train") if path.is_dir()))
        tree.rename(tree.with_name("swap"))
        tree.with_name("val").rename(tree)
        tree.with_name("swap").rename(tree.with_name("val"))
        return Mutation("swap train and val in one tree", ["train", "val", "label"], True)

    def do_other_kind_of_picture(self) -> Mutation:
        path = self._file("*.png")
        pixels = _read(path)
        mode = self.chance.choice(("RGBA", "LA", "P", "1", "L", "RGB", "I;16"))
        picture = Image.fromarray(pixels.astype(np.uint8))
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16))
        else:
            picture = picture.convert(mode)
        picture.save(path, format="PNG")
        return Mutation(f"{path.name} as {mode}", names_of(path))

    def do_sixteen_bit_color(self) -> Mutation:
        path = self._image()
        write_png(path, _read(path).astype(np.uint16) * 257, color=2, depth=16)
        return Mutation(f"{path.name} with 16 bits", names_of(path), True)

    def do_palette_label(self) -> Mutation:
        path = self._label()
        write_png(path, _read(path), color=3)
        return Mutation(f"{path.name} with a palette", names_of(path), True)

    def do_interlace(self) -> Mutation:
        path = self.chance.choice((self._image, self._label))()
        pixels = _read(path)
        write_png(path, pixels, color=2 if pixels.ndim == 3 else 0, interlaced=True)
        return Mutation(f"{path.name} interlaced", names_of(path))

    def do_wrong_checksum(self) -> Mutation:
        path = self._file("*.png")
        _repack(path, lambda data: data.__setitem__(29, data[29] ^ 1))
        return Mutation(f"{path.name} with a wrong CRC", names_of(path))

    def do_enormous_header(self) -> Mutation:
        path = self._file("*.png")

        def change(data: bytearray) -> None:
            data[16:24] = struct.pack(">II", 1 << 30, 1 << 30)
            data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))

        _repack(path, change)
        return Mutation(f"{path.name} claims 2^30 x 2^30 pixels", names_of(path))

    def do_jpeg(self) -> Mutation:
        path = self._image()
        Image.fromarray(_read(path)).save(path, format="JPEG")
        return Mutation(f"{path.name} is a JPEG", names_of(path), True)

    def do_text_chunk(self) -> Mutation:
        path = self._image()

        def change(data: bytearray) -> None:
            body = b"tEXtSoftware\0a camera"
            data[33:33] = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

        _repack(path, change)
        return Mutation(f"{path.name} with a text chunk", names_of(path))

    def do_label_value(self) -> Mutation:
        path = self._label()
        pixels = _read(path).copy()
        value = self.chance.choice((34, 99, 255, 128))
        pixels[self.chance.randrange(len(pixels)), 0] = value
        Image.fromarray(pixels).save(path)
        return Mutation(f"{path.name} with label id {value}", [*names_of(path)])

    def do_other_label(self) -> Mutation:
        path = self._label()
        pixels = _read(path).copy()
        pixels[:5] = self.chance.randrange(34)
        Image.fromarray(pixels).save(path)
        return Mutation(f"{path.name} with other labels", names_of(path))

    def do_spoil_annotation(self) -> Mutation:
        path = self._annotation()
        document = json.loads(path.read_text())
        what = spoil_json(document, self.chance)
        path.write_text(json.dumps(document), encoding="utf-8", errors="surrogatepass")
        return Mutation(f"{path.name}: {what}", names_of(path))

    def do_large_annotation(self) -> Mutation:
        path = self._annotation()
        kind = self.chance.choice(("spaces", "deep", "digits", "objects", "infinite", "bom"))
        text = path.read_text()
        made: Dict[str, Callable[[], bytes]] = {
            "spaces": lambda: text.encode() + b" " * (33 << 20),
            "deep": lambda: b'{"imgHeight": ' + b"[" * 200_000,
            "digits": lambda: text.replace("32", "9" * 10_000, 1).encode(),
            "objects": lambda: text.replace(
                '"objects": [', '"objects": [' + '{"label": "nonsense"},' * 20_000
            ).encode(),
            "infinite": lambda: text.replace("[0, ", "[Infinity, ", 1).encode(),
            "bom": lambda: b"\xef\xbb\xbf" + text.encode(),
        }
        path.write_bytes(made[kind]())
        return Mutation(f"{path.name}: {kind}", names_of(path))

    def do_something_else_than_a_file(self) -> Mutation:
        path = self._file()
        path.unlink()
        kind = self.chance.choice(("pipe", "folder", "dead link", "loop", "device"))
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.symlink_to(path if kind == "loop" else "nowhere")
        return Mutation(f"{path.name} is a {kind}", names_of(path))

    def do_link(self) -> Mutation:
        path = self._file()
        target = path.rename(self.root / f"elsewhere-{path.name}")
        path.symlink_to(target)
        return Mutation(f"{path.name} is a link to a file", names_of(path))

    def do_link_loop(self) -> Mutation:
        """A folder that leads back to itself or to one above it, as file servers and careless copies have them."""
        folder = self._file().parent
        link = folder.parent / "loop" if self.chance.random() < 0.5 else folder / "loop"
        link.symlink_to(
            self.chance.choice((link, folder, folder.parent, self.root, Path("/"), link.parent / "nowhere"))
        )
        return Mutation(f"a folder {link.name} in {link.parent.name} leads back", ["loop", link.parent.name])

    def do_unreadable_folder(self) -> Mutation:
        folder = self._file().parent
        folder.chmod(0)
        return Mutation(f"folder {folder.name} without permissions", [folder.name, folder.parent.name])

    def do_other_numbering(self) -> Mutation:
        """Label ids of another table in all rasters: of a task of one's own, as train ids, or in a row."""
        paths = sorted(self.root.rglob("*_gtFine_labelIds.png"))
        if not paths:
            raise LookupError("*_gtFine_labelIds.png")
        kind = self.chance.choice(("three classes", "train ids", "in a row"))
        used = np.unique(np.concatenate([np.unique(_read(path)) for path in paths]))
        tables = {
            # None of 0, 1 and 2 is a trained class.
            "three classes": np.arange(256) % 3,
            "train ids": np.array([id2label[i].trainId % 256 if i in id2label else 255 for i in range(256)]),
            "in a row": np.searchsorted(used, np.arange(256)).clip(max=len(used) - 1),
        }
        for path in paths:
            Image.fromarray(tables[kind].astype(np.uint8)[_read(path)]).save(path)
        return Mutation(
            f"label ids as {kind}", ["train:", "val:", "label ids", *names_of(paths[0])], kind == "three classes"
        )

    def do_litter(self) -> Mutation:
        folder = self._file().parent
        name = self.chance.choice((".DS_Store", "Thumbs.db", "._x.png", "readme.txt", "x.png", "x.json", "~$x"))
        (folder / name).write_bytes(b"litter")
        return Mutation(f"litter {name} in {folder.name}", [name, *names_of(folder / name)])

    def do_empty_city(self) -> Mutation:
        folder = self._file().parent.parent / self.chance.choice(("nowhere", "a b", "ü", "x,y"))
        folder.mkdir(exist_ok=True)
        return Mutation(f"empty city {folder.name}", [folder.name, folder.parent.name])

    def do_city_with_a_separator(self) -> Mutation:
        """A city whose name holds what lists are cut at: legal, and must be paired all the same or named."""
        old = self._image().parent.name
        legal = ("a,b", "köln", "a b", "x'y", "a;b", "-r", "$(touch x)")
        # What a terminal obeys, what turns the direction of writing, what ends a line, and bytes that are no text.
        acting = (
            "\x1b[31mred",
            "\x1b]0;title\x07",
            "\x9b31m",
            "\u202egnp",
            "a\u2028b",
            "a\nb",
            "a\tb",
            os.fsdecode(b"\xff"),
        )
        name = self.chance.choice(legal + acting)
        for folder in sorted(path for path in self.root.rglob(old) if path.is_dir()):
            for path in sorted(folder.iterdir()):
                path.rename(path.with_name(name + path.name[len(old) :]))
            folder.rename(folder.with_name(name))
        return Mutation(f"city {old} named {name!r}", [name, old, repr(name)[1:-1]])

    def do_nothing(self) -> Mutation:
        return Mutation("nothing", [])


def _trees() -> List[str]:
    return ["leftImg8bit", "gtFine"]
