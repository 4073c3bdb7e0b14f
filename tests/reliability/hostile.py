"""Weights files of an attacker: each asks for something that must not happen.

As a program it shows how every one of them ends in the interpreter that runs it, which needs neither pytest nor
Paddle: `python tests/reliability/hostile.py`.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

#: Python's, found in `pickletools`.
MARK, STOP, REDUCE, BUILD, TUPLE, DICT = b"(", b".", b"R", b"b", b"t", b"d"
EMPTY_DICT, EMPTY_TUPLE, SETITEM, NEWTRUE, MEMOIZE, DUP_BY_GET = b"}", b")", b"s", b"\x88", b"\x94", b"h"


class Call:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Tuple[Any, ...]:
        return self.function, self.arguments


class CallByState:
    """Pickles to a dict whose state is what a call returns."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> Tuple[Any, ...]:
        return dict, (), {"w": Call(os.system, f"touch {self.marker}")}


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def running(marker: str) -> Iterator[Tuple[str, bytes]]:
    """Pickles that create the file `marker` in a reader that executes them."""
    command = f"touch {marker}"
    python = f"__import__('pathlib').Path({marker!r}).touch()"
    calls = {
        "os.system": Call(os.system, command),
        "subprocess.Popen": Call(subprocess.Popen, ["touch", marker]),
        "subprocess.call": Call(subprocess.check_call, ["touch", marker]),
        "eval": Call(eval, python),
        "exec": Call(exec, python),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
        "open": Call(open, marker, "w"),
        "numpy.memmap": Call(np.memmap, marker, "uint8", "w+", 0, (1,)),
        "numpy.fromfile": Call(np.fromfile, "/etc/hostname", "uint8"),
        "map": Call(list, Call(map, eval, [python])),
        "by state": CallByState(marker),
    }
    for name, call in calls.items():
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for place, value in (("value", {"w": call}), ("alone", call), ("key", {"a": [call]}), ("tuple", (call,))):
                try:
                    yield f"{name}, protocol {protocol}, as {place}", pickle.dumps(value, protocol)
                except (pickle.PicklingError, TypeError):
                    continue
    argument = text(command)
    raw = {
        "GLOBAL": b"cos\nsystem\n" + MARK + argument + TUPLE + REDUCE,
        "STACK_GLOBAL": text("os") + text("system") + b"\x93" + argument + b"\x85" + REDUCE,
        "dotted STACK_GLOBAL": text("numpy") + text("core.os.system") + b"\x93" + argument + b"\x85" + REDUCE,
        "dotted from a known module": text("collections") + text("OrderedDict.__init__") + b"\x93",
        "INST": MARK + argument + b"ios\nsystem\n",
        "OBJ": MARK + b"cos\nsystem\n" + argument + b"o",
        "NEWOBJ": b"csubprocess\nPopen\n" + MARK + text("touch") + TUPLE + b"\x81",
        "NEWOBJ_EX": text("subprocess") + text("Popen") + b"\x93" + EMPTY_TUPLE + EMPTY_DICT + b"\x92",
        "EXT1": b"\x82\x01" + MARK + argument + TUPLE + REDUCE,
        "PERSID": b"Pos.system\n",
        "BINPERSID": argument + b"Q",
        "NEXT_BUFFER": b"\x97",
        "BUILD on a class": b"ccollections\nOrderedDict\n" + EMPTY_DICT + text("__init__") + argument + SETITEM + BUILD,
        "BUILD on a function": b"cnumpy.core.multiarray\n_reconstruct\n"
        + b"N" + EMPTY_DICT + text("__defaults__") + EMPTY_TUPLE + SETITEM + b"\x86" + BUILD,
        "the builtins of a known name": b"cnumpy\nbuiltins.eval\n" + MARK + text(python) + TUPLE + REDUCE,
        "Python 2's name": b"c__builtin__\neval\n" + MARK + text(python) + TUPLE + REDUCE,
        "codecs": b"c_codecs\ndecode\n" + MARK + argument + text("rot13") + TUPLE + REDUCE,
        "a line in the name": text("os\nsystem\x1b[2J") + text("x" * 5000) + b"\x93",
    }  # fmt: skip
    for name, body in raw.items():
        yield f"raw {name}", b"\x80\x04" + EMPTY_DICT + text("w") + body + SETITEM + STOP
        yield f"raw {name}, alone", b"\x80\x04" + body + STOP


def bombs() -> Iterator[Tuple[str, bytes]]:
    """Small pickles that take all memory or time of a reader that is not careful."""
    yield "memo of 2^31 entries", b"\x80\x04" + EMPTY_DICT + b"r" + struct.pack("<I", (1 << 31) - 1) + STOP
    yield "8 exabytes of text", b"\x80\x04\x8d" + struct.pack("<Q", (1 << 63) - 1) + b"x" + STOP
    yield "2^40 bytes", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x" + STOP
    yield "frame of 2^60", b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"x" + STOP
    doubling = b"\x80\x04" + EMPTY_DICT + EMPTY_TUPLE + MEMOIZE
    for level in range(120):
        doubling += DUP_BY_GET + bytes([level]) + DUP_BY_GET + bytes([level]) + b"\x86" + MEMOIZE
    yield "a key that takes 2^120 steps to hash", doubling + b"Ns" + STOP
    nest = b"\x80\x04" + EMPTY_DICT + EMPTY_TUPLE + b"\x85" * 400_000
    yield "a key nested 400,000 deep", nest + b"Ns" + STOP
    yield "a value nested 400,000 deep", b"\x80\x04" + EMPTY_DICT + text("w") + nest[3:] + b"s" + STOP
    yield "number of a million digits", b"\x80\x04I" + b"9" * 1_000_000 + b"\n" + STOP
    yield "an array made with 10^12 elements", pickle.dumps({"w": Call(np.ndarray, (10**6, 10**6))}, 4)
    yield "a dtype of 10^5 fields", pickle.dumps({"w": Call(np.dtype, "f8," * 100_000)}, 4)
    yield from amplifiers()
    stored = np.zeros(4, np.float32).__reduce__()
    state = list(stored[2])

    class Lying:
        def __init__(self, shape: Tuple[int, ...]) -> None:
            self.shape = shape

        def __reduce__(self) -> Tuple[Any, ...]:
            return stored[0], stored[1], (state[0], self.shape, *state[2:])

    for shape in ((1 << 40,), (-4,), (2, -2), (0,) * 40 + (1,), (1 << 62, 1 << 62)):
        yield f"a shape of {len(shape)} axes that lies", pickle.dumps({"w": Lying(shape)}, 4)

    class Pointers:
        def __reduce__(self) -> Tuple[Any, ...]:
            objects = np.zeros(1, object).__reduce__()
            return objects[0], objects[1], (1, (1,), np.dtype("O"), False, b"\x00" * 8)

    yield "an array of pointers", pickle.dumps({"w": Pointers()}, 4)


def put(slot: int) -> bytes:
    """The value on top of the stack gets a name."""
    return b"r" + struct.pack("<I", slot)


def get(slot: int) -> bytes:
    """The value of that name."""
    return b"j" + struct.pack("<I", slot)


def amplifiers(calls: int = 100_000) -> Iterator[Tuple[str, bytes]]:
    """Pickles of kilobytes that name one large value again and again, or keep the processor busy with few bytes.

    Args:
        calls: how often the value is named.
    """
    head, tail = b"\x80\x02" + EMPTY_DICT + text("w") + MARK, b"ls" + STOP
    nones = b"](" + b"N" * 200_000 + b"e"
    pairs = b"](" + b"".join(b"J" + struct.pack("<i", n) + b"N\x86" for n in range(100_000)) + b"e"
    long = text("a" * 2_000_000)
    for name, maker, value, call in (
        ("tuples of one list", b"cbuiltins\ntuple\n", nones, b"\x85R"),
        ("dicts of one list", b"ccollections\nOrderedDict\n", pairs, b"\x85R"),
        ("a call with 200,000 arguments", b"ccollections\nOrderedDict\n", MARK + b"N" * 200_000 + TUPLE, b"R"),
        ("notes with 200,000 arguments", b"cnumpy\ndtype\n", MARK + b"N" * 200_000 + TUPLE, b"R"),
    ):
        yield (
            f"{name}, again and again",
            head + maker + put(0) + value + put(1) + (get(0) + get(1) + call) * calls + tail,
        )
    encoder = b"c_codecs\nencode\n" + put(0) + long + put(1) + text("latin1") + put(2)
    yield "bytes of one text, again and again", head + encoder + (get(0) + get(1) + get(2) + b"\x86R") * calls + tail
    same_hash = b"".join(b"\x8a\x0b" + (n * ((1 << 61) - 1)).to_bytes(11, "little") + b"N" for n in range(1, 60_000))
    yield "60,000 keys of one hash", b"\x80\x04" + EMPTY_DICT + MARK + same_hash + b"u" + STOP
    not_a_number = b"G" + struct.pack(">d", float("nan")) + b"N"
    yield "60,000 keys that equal nothing", b"\x80\x04" + EMPTY_DICT + MARK + not_a_number * 60_000 + b"u" + STOP
    yield "a memo slot of a million digits", b"\x80\x04" + EMPTY_DICT + b"p" + b"9" * 1_000_000 + b"\n" + STOP
    yield "a long number of a million digits", b"\x80\x04L" + b"9" * 1_000_000 + b"L\n" + STOP
    yield "five million empty dicts", b"\x80\x04" + EMPTY_DICT + text("w") + MARK + EMPTY_DICT * 5_000_000 + tail
    yield (
        "a text of 20 MB with one wide character",
        b"\x80\x04" + EMPTY_DICT + text("w") + text("a" * 20_000_000 + "\U0001f600") + b"s" + STOP,
    )


class _Storage:
    """Pickles as torch's storage reference."""

    def __init__(self, key: str, count: int, kind: str = "FloatStorage") -> None:
        self.key, self.count, self.kind = key, count, kind


class _TorchPickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes what torch writes, without torch."""

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, _Storage):
            return ("storage", _Name("torch", value.kind), value.key, "cpu", value.count)
        return None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, _Name):
            self.write(b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n")
            return
        super().save(value, save_persistent_id)


class _Name:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Rebuild:
    """Pickles as a torch tensor."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        self.arguments = (storage, offset, shape, strides, False, {})

    def __reduce__(self) -> Tuple[Any, ...]:
        return _Callable(), self.arguments


class _Callable:
    """Stands for torch._utils._rebuild_tensor_v2 while pickling."""

    def __call__(self) -> None:
        raise AssertionError


def torch_pickle(value: Any, protocol: int = 2) -> bytes:
    """What torch would write for `value`, tensors being `Rebuild`."""
    buffer = io.BytesIO()
    pickler = _TorchPickler(buffer, protocol)
    name = _Name("torch._utils", "_rebuild_tensor_v2")
    original = pickler.save

    def save(one: Any, save_persistent_id: bool = True) -> None:
        original(name if isinstance(one, _Callable) else one, save_persistent_id)

    pickler.save = save
    pickler.dump(value)
    return buffer.getvalue()


def torch_zip(structure: bytes, storages: Dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    """A container of torch 1.6 and later."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        archive.writestr("archive/data.pkl", structure)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return buffer.getvalue()


def torch_legacy(structure: bytes, storages: Dict[str, bytes], counts: Dict[str, int]) -> bytes:
    """A container of torch before 1.6."""
    head = b"".join(
        pickle.dumps(part, 2)
        for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
    )
    tail = pickle.dumps(list(storages), 2)
    for key, data in storages.items():
        tail += struct.pack("<q", counts[key]) + data
    return head + structure + tail


def torch_files(marker: str) -> Iterator[Tuple[str, bytes]]:
    """Hostile torch checkpoints in both containers."""
    numbers = np.arange(6, dtype=np.float32).tobytes()
    for name, structure in running(marker):
        if "protocol 2" in name or "raw" in name:
            yield f"torch zip: {name}", torch_zip(structure, {})
            yield f"torch old: {name}", torch_legacy(structure, {}, {})
    for name, structure in bombs():
        yield f"torch zip: {name}", torch_zip(structure, {}, zipfile.ZIP_DEFLATED)
        yield f"torch old: {name}", torch_legacy(structure, {}, {})
    storage = _Storage("0", 6)
    tensors = {
        "offset beyond the end": Rebuild(storage, 5, (2,), (1,)),
        "negative offset": Rebuild(storage, -3, (2,), (1,)),
        "stride beyond the end": Rebuild(storage, 0, (2,), (1 << 40,)),
        "negative stride": Rebuild(storage, 5, (2,), (-1,)),
        "stride 0 over 10^12 elements": Rebuild(storage, 0, (10**6, 10**6), (0, 0)),
        "overflowing product": Rebuild(storage, 0, (1 << 33, 1 << 33), (1, 1)),
        "negative size": Rebuild(storage, 0, (-2, -3), (1, 1)),
        "fewer strides than sizes": Rebuild(storage, 0, (2, 3), (1,)),
        "sizes that are no numbers": Rebuild(storage, 0, ("2", 3.5), (1, 1)),
        "no storage": Rebuild("0", 0, (2,), (1,)),
        "storage of 2^62 numbers": Rebuild(_Storage("0", 1 << 62), 0, (2,), (1,)),
        "storage of -1 numbers": Rebuild(_Storage("0", -1), 0, (2,), (1,)),
        "storage of pickled objects": Rebuild(_Storage("0", 6, "UntypedStorage"), 0, (2,), (1,)),
        "storage with a path for a key": Rebuild(_Storage("../../../../etc/passwd", 6), 0, (2,), (1,)),
    }
    for name, tensor in tensors.items():
        structure = torch_pickle({"w": tensor})
        yield f"torch zip: {name}", torch_zip(structure, {"0": numbers})
        yield f"torch old: {name}", torch_legacy(structure, {"0": numbers}, {"0": 6})
    sound = torch_pickle({"w": Rebuild(storage, 0, (6,), (1,))})
    yield "torch zip: two structures", torch_zip(sound, {"0": numbers, "x/data.pkl": sound})
    yield "torch zip: storage of another length", torch_zip(sound, {"0": numbers[:-1]})
    yield "torch zip: no storage", torch_zip(sound, {})
    yield "torch old: storage cut off", torch_legacy(sound, {"0": numbers[:-3]}, {"0": 6})
    yield "torch old: another count", torch_legacy(sound, {"0": numbers}, {"0": 1 << 61})
    yield "torch old: negative count", torch_legacy(sound, {"0": numbers}, {"0": -1})
    large = torch_pickle({"w": Rebuild(_Storage("0", 1 << 27), 0, (1,), (1,))})
    yield "torch zip: half a gigabyte of zeros, packed", torch_zip(large, {"0": bytes(1 << 29)}, zipfile.ZIP_DEFLATED)
    shared = torch_pickle({f"w{n}": Rebuild(_Storage("0", 1 << 22), 0, (1 << 22,), (1,)) for n in range(1000)})
    yield "torch zip: one storage a thousand times", torch_zip(shared, {"0": bytes(1 << 24)})
    yield "torch zip: a hundred entries over the same 16 MB", _overlapping(100, 1 << 22)
    yield "torch zip: a table of contents of 500,000 entries", _long_contents(500_000)
    nested: Any = ()
    for _ in range(60):
        nested = (nested, nested)
    sound_old = torch_legacy(sound, {"0": numbers}, {"0": 6})
    keys = pickle.dumps(["0"], 2)
    at = sound_old.rindex(keys)
    yield "torch old: a key that takes 2^60 steps to hash", sound_old[:at] + pickle.dumps([nested], 2) + sound_old[at:]
    doubling: Any = {"w": 1}
    for _ in range(64):
        doubling = {"a": doubling, "b": doubling}
    yield "torch zip: dicts that take 2^64 steps to walk", torch_zip(torch_pickle(doubling), {})


def _overlapping(entries: int, count: int) -> bytes:
    """A container whose entries all lie over the same `count` numbers."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        tensors = {f"w{n}": Rebuild(_Storage(str(n), count), 0, (1,), (1,)) for n in range(entries)}
        archive.writestr("archive/data.pkl", torch_pickle(tensors))
        archive.writestr("archive/data/0", bytes(4 * count))
        first = archive.getinfo("archive/data/0")
        for number in range(1, entries):
            info = zipfile.ZipInfo(f"archive/data/{number}")
            info.header_offset, info.file_size, info.compress_size, info.CRC = (
                first.header_offset,
                first.file_size,
                first.compress_size,
                first.CRC,
            )
            # The local header has the first one's name; a name of the same length is not looked at by all readers.
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
    return buffer.getvalue()


def _long_contents(entries: int) -> bytes:
    """A container whose table of contents names one empty entry again and again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", b"")
    data = buffer.getvalue()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(entry) * entries, start, 0)
    return data[:start] + entry * entries + tail


def packed_tar(name: str, data: bytes) -> bytes:
    """A `.tar.gz` around one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def archives(marker: str) -> Iterator[Tuple[str, bytes]]:
    """Hostile tar archives around a weights file."""

    def tar(mode: str, *members: Tuple[tarfile.TarInfo, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for member, data in members:
                archive.addfile(member, io.BytesIO(data))
        return buffer.getvalue()

    def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> Any:
        made = tarfile.TarInfo(name)
        made.type, made.linkname, made.size = kind, target, len(data)
        return made, data

    hostile = pickle.dumps({"w": Call(os.system, f"touch {marker}")}, 4)
    for name in ("w.pdparams", "../../w.pdparams", "/tmp/w.pdparams"):
        yield f"tar: a hostile {name}", tar("w:gz", member(name, hostile))
    for kind, what in (
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.DIRTYPE, "folder"),
    ):
        yield f"tar: {what}", tar("w", member("w.pdparams", kind=kind, target="/etc/passwd"))
    yield "tar: two of them", tar("w", member("a.pdparams", hostile), member("b.pdparams", hostile))
    header = bytearray(tar("w", member("w.pdparams", b"x" * 512)))

    def resized(field: bytes) -> bytes:
        changed = bytearray(header)
        changed[124:136] = field
        changed[148:156] = b" " * 8
        changed[148:156] = b"%06o\0 " % sum(changed[:512])
        return bytes(changed)

    yield "tar: size of 8 GB", resized(b"77777777777\0")
    yield "tar: negative size", resized(b"\xff" * 10 + b"\xfe\x00")
    yield "tar: size of 2^80", resized(b"\x80\x00" + b"\xff" * 10)
    yield "tar: a name of 700 MB, packed", _long_name()
    yield "tar: a thousand million zeros, packed", gzip.compress(bytes(1 << 30), 1)
    yield "tar: headers for all of 60,000 members", _headers_for_all(60_000)
    wide = b"\x80\x04" + EMPTY_DICT + text("w") + text("a" * 75_000_000 + "\U0001f600") + b"s" + STOP
    yield "tar: a text of 75 MB with one wide character", tar("w:gz", member("w.pdparams", wide))


def _headers_for_all(members: int) -> bytes:
    """Ten thousand keys of POSIX's global header, which `tarfile` copies to each member."""
    pairs = {f"key{n}": "v" for n in range(10_000)}
    head = tarfile.TarInfo.create_pax_global_header(pairs)
    one = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
    return gzip.compress(head + one * members + bytes(1024), 1)


def _long_name() -> bytes:
    note = tarfile.TarInfo("././@LongLink")
    note.type, note.size = tarfile.GNUTYPE_LONGNAME, 700 << 20
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    packed = packer.compress(note.tobuf(tarfile.GNU_FORMAT))
    for _ in range(700):
        packed += packer.compress(bytes(1 << 20))
    return packed + packer.flush()


def every_file(marker: str) -> Iterator[Tuple[str, str, bytes]]:
    """(name, suffix, content) of all of them."""
    for name, data in running(marker):
        yield name, ".pdparams", data
    for name, data in bombs():
        yield name, ".pdparams", data
    for name, data in torch_files(marker):
        yield name, ".pth", data
    for name, data in archives(marker):
        yield name, ".tar.gz", data
    yield "safetensors: a header of 2^60 bytes", ".safetensors", struct.pack("<Q", 1 << 60) + b"{}"
    one = b'"%06d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    many = b"{" + b",".join(one % n for n in range(400_000)) + b"}"
    yield "safetensors: 400,000 empty tensors", ".safetensors", struct.pack("<Q", len(many)) + many
    yield "safetensors: a nested header", ".safetensors", struct.pack("<Q", 200_000) + b"[" * 200_000


def ends(path: Path, limit_s: float, limit_mb: int) -> str:
    """How reading a file ends, in a forked child of its own: empty for a refusal in words within the limits.

    Args:
        limit_s: seconds that it may take.
        limit_mb: memory that it may take beyond what this process has; the child's address space ends there.
    """
    from stdc.errors import InputError
    from stdc.weights.reading import read_weights

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        end = ""
        try:
            os.close(reader)
            now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + (limit_mb << 20),) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 1))
            try:
                read_weights(path)
                end = "was read"
            except InputError as error:
                # A reader that runs out of memory explains that too, but has not refused anything.
                end = f"took more than {limit_mb} MB" if "MemoryError" in str(error) else ""
            except MemoryError:
                end = f"took more than {limit_mb} MB"
            except BaseException as error:
                end = f"raised {type(error).__name__}: {str(error)[:100]}"
            os.write(writer, (end or "refused").encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as handle:
        answer = handle.read().decode()
    _, status = os.waitpid(child, 0)
    if not answer:
        return f"took more than {limit_s:.0f} s or died (wait status {status})"
    return "" if answer == "refused" else answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit-s", type=float, default=20.0, help="seconds of processor time that one file may take")
    parser.add_argument("--limit-mb", type=int, default=500, help="memory that reading one file may take")
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose name holds this")
    options = parser.parse_args()
    # Loaded before the children are forked: what they need of their own is the reader's.
    import safetensors.numpy  # noqa: F401

    bad = count = 0
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        marker = f"{folder}/marker"
        for name, suffix, data in every_file(marker):
            if options.only not in name:
                continue
            count += 1
            path = Path(folder, "hostile" + suffix)
            path.write_bytes(data)
            del data
            started = time.monotonic()
            end = ends(path, options.limit_s, options.limit_mb)
            if Path(marker).exists():
                end = "RAN"
                Path(marker).unlink()
            slowest = max(slowest, (time.monotonic() - started, name))
            if end:
                bad += 1
                print(f"{name}: {end}", flush=True)
    versions = f"Python {sys.version.split()[0]}, NumPy {np.__version__}"
    print(f"{count} hostile weights files, {count - bad} refused, {bad} not; {versions}")
    print(f"slowest: {slowest[1]}, {slowest[0]:.1f} s")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
