"""Spoiled weights, checkpoints, and documents; ranks on a failing disk, and killed data workers."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any, List, Tuple

import documents
import hostile
import numpy as np
import worker_kills
from judging import judge, need, run_script, snapshot, void
from mutations import Chance, Mutation, damage, spoil_json
from sound_material import Templates

from stdc import files
from stdc.errors import InputError
from stdc.machine import ranks
from stdc.machine.heartbeat import Limits
from stdc.training import checkpoints
from stdc.training.agreement import agreed_checkpoint
from stdc.weights.reading import read_weights


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
            # Without times, so that a case is the same each time it is played.
            entry = tarfile.TarInfo("STDC/model.pdparams")
            entry.size = path.stat().st_size
            packed = gzip.GzipFile(str(place / "w.tar.gz"), "wb", mtime=0)
            with packed, tarfile.open(fileobj=packed, mode="w") as archive, path.open("rb") as content:
                archive.addfile(entry, content)
            path = place / "w.tar.gz"
    if kind != "hostile":
        names = {re.sub(r"running_", "_", name) for name in arrays}
        read = read_weights(path)
        need({re.sub(r"running_", "_", name) for name in read} <= names and read, "a sound file reads otherwise")
        path.write_bytes(damage(path.read_bytes(), chance))
    try:
        found = read_weights(path)
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
        opened = files.open_file

        def opening(path: files.PathLike) -> Any:
            nonlocal reads
            reads += 1
            if reads == failing + 1:
                raise OSError(number, os.strerror(number), str(path))
            return opened(path)

        files.open_file = opening
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
