"""The plain Python beside the rules."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from other_things import OTHER_THINGS

LIB = Path(__file__).resolve().parents[2] / "workflow" / "lib"
sys.path.insert(0, str(LIB))

import code_inputs  # noqa: E402
import configuration  # noqa: E402
import dataset_folder  # noqa: E402
import lint  # noqa: E402
import session  # noqa: E402

sys.path.remove(str(LIB))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    city = tmp_path / "leftImg8bit" / "train" / "aachen"
    city.mkdir(parents=True)
    for number in range(3):
        (city / f"aachen_{number:06d}_000019_leftImg8bit.png").write_bytes(b"image")
    return tmp_path


def test_fingerprint_follows_names_sizes_and_times_of_used_files(folder: Path) -> None:
    seen = [dataset_folder.fingerprint(folder)]
    image = folder / "leftImg8bit" / "train" / "aachen" / "aachen_000000_000019_leftImg8bit.png"
    image.write_bytes(b"longer image")
    seen.append(dataset_folder.fingerprint(folder))
    os.utime(image, ns=(1, 1))
    seen.append(dataset_folder.fingerprint(folder))
    image.rename(image.with_name("aachen_000007_000019_leftImg8bit.png"))
    seen.append(dataset_folder.fingerprint(folder))
    (folder / "gtFine" / "train" / "aachen").mkdir(parents=True)
    (folder / "gtFine" / "train" / "aachen" / "aachen_000000_000019_gtFine_labelIds.png").touch()
    seen.append(dataset_folder.fingerprint(folder))
    (folder / "gtFine_trainvaltest.zip").touch()
    seen.append(dataset_folder.fingerprint(folder))
    assert len(set(seen)) == len(seen)


def test_fingerprint_ignores_what_is_not_used(folder: Path) -> None:
    before = dataset_folder.fingerprint(folder)
    (folder / "leftImg8bit" / "train" / "aachen" / "notes.txt").touch()
    (folder / "leftImg8bit_sequence").mkdir()
    (folder / "leftImg8bit_sequence" / "aachen_000000_000001_leftImg8bit.png").touch()
    assert dataset_folder.fingerprint(folder) == before


def test_fingerprint_follows_links_to_folders_and_survives_dead_and_circular_ones(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "leftImg8bit").symlink_to(folder / "leftImg8bit")
    assert dataset_folder.fingerprint(linked) == dataset_folder.fingerprint(folder)
    city = folder / "leftImg8bit" / "train" / "aachen"
    (city / "again").symlink_to(folder)
    (city / "dead_leftImg8bit.png").symlink_to(folder / "nowhere")
    (folder / "leftImg8bit" / "train" / "loop").symlink_to("loop")
    assert dataset_folder.fingerprint(folder) != ""


def test_fingerprint_of_a_full_dataset_takes_less_than_a_second(tmp_path: Path) -> None:
    for city in range(20):
        inside = tmp_path / "gtFine" / "train" / f"city{city}"
        inside.mkdir(parents=True)
        for number in range(1000):
            os.close(os.open(f"{inside}/{number}_gtFine_labelIds.png", os.O_CREAT))
    started = time.process_time()
    dataset_folder.fingerprint(tmp_path)
    assert time.process_time() - started < 1.0


def test_zips_count_only_where_nothing_is_unpacked(tmp_path: Path) -> None:
    assert dataset_folder.kind_of(tmp_path) == "folder"
    (tmp_path / "leftImg8bit_trainvaltest.zip").touch()
    assert dataset_folder.kind_of(tmp_path) == "archives"
    (tmp_path / "leftImg8bit_trainvaltest").mkdir()
    assert dataset_folder.kind_of(tmp_path) == "folder"


@pytest.mark.parametrize("name", ["a b;$(touch x)'\"", "..data", "ü/..", "{seed}", "x" * 300])
def test_key_is_a_safe_name_for_any_folder(name: str) -> None:
    key = dataset_folder.key_of(Path("/data") / name)
    assert 0 < len(key) < 60
    assert not set(key) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert not key.startswith(".")
    assert key != dataset_folder.key_of(Path("/other") / name)


SCHEMA = {
    "type": "object",
    "properties": {
        "dataset": {"type": ["string", "null"]},
        "name": {"type": "string"},
        "part": {
            "type": "object",
            "properties": {
                "count": {"type": ["integer", "null"]},
                "rate": {"type": "number"},
                "flag": {"type": "boolean"},
                "list": {"type": "array", "items": {"type": "integer"}},
            },
        },
    },
}


def test_words_take_the_types_of_the_schema_and_nothing_else() -> None:
    words = {"part": {"count": "7", "rate": "1e-3", "flag": "False", "list": ["1", "x"]}, "other": "5"}
    parsed = configuration.parse_words(words, SCHEMA, {})
    assert parsed == {"part": {"count": 7, "rate": 0.001, "flag": False, "list": [1, "x"]}, "other": "5"}
    assert configuration.parse_words({"part": {"count": "null"}}, SCHEMA, {}) == {"part": {"count": None}}
    assert configuration.parse_words({"part": {"count": "seven"}}, SCHEMA, {}) == {"part": {"count": "seven"}}


def test_texts_are_taken_as_they_were_typed() -> None:
    """Snakemake turns 007 into a number and cuts a path at a `#`."""
    parsed = configuration.parse_words(
        {"name": 7, "dataset": "/data/a"}, SCHEMA, {"name": "007", "dataset": "/data/a #b: c"}
    )
    assert parsed == {"name": "007", "dataset": "/data/a #b: c"}
    assert configuration.parse_words({"dataset": None}, SCHEMA, {"dataset": ""}) == {"dataset": None}


def test_tidy_makes_one_form_of_equal_numbers() -> None:
    part = {"count": 4.0, "rate": 1, "flag": True, "list": [2.0]}
    tidied = configuration.tidy({"part": part}, SCHEMA)["part"]
    assert tidied == {"count": 4, "rate": 1.0, "flag": True, "list": [2]}
    assert [type(value) for value in tidied.values()] == [int, float, bool, list]
    texts = {"part": {"count": "4", "rate": "1e-3"}}
    assert configuration.tidy(texts, SCHEMA) == {"part": {"count": "4", "rate": 0.001}}


def test_merging_replaces_lists_and_leaves_the_sources_alone() -> None:
    first = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    second = {"a": {"y": [3]}, "c": 2}
    assert configuration.merged(first, second) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert first == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_the_lock_is_held_once_and_dropped_by_a_kill(tmp_path: Path) -> None:
    holder = (
        f"import sys, time; sys.path.insert(0, {str(LIB)!r}); import session, pathlib\n"
        f"handle = session.hold_lock(pathlib.Path({str(tmp_path)!r})); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError, match=f"another run is at work .*process {process.pid} on "):
            session.hold_lock(tmp_path)
        process.kill()
    handle = session.hold_lock(tmp_path)
    assert handle is not None
    handle.close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_file_system_without_locks_is_told_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    assert session.hold_lock(tmp_path) is None
    assert capsys.readouterr().err == f"{tmp_path}: this file system has no locks; do not start a second run here\n"
    assert session.is_free(tmp_path)


def test_lock_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """Another user's, or on a file system that is read-only by now."""
    (tmp_path / session.LOCK_FILE).mkdir()
    with pytest.raises(PermissionError, match=r"stdc\.lock: Is a directory; work in a folder of your own"):
        session.hold_lock(tmp_path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", OTHER_THINGS)
def test_what_is_no_file_keeps_snakemake_from_nothing(tmp_path: Path, kind: str) -> None:
    """Something else stands in the place of each file that is read before or after the jobs."""
    for name in (session.LOCK_FILE, "verdict.json", "summary.json", "a.json", "logs/train/x.log.error.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        OTHER_THINGS[kind](tmp_path / name)
    with pytest.raises(PermissionError, match=r"stdc\.lock: "):
        session.hold_lock(tmp_path)
    session.is_free(tmp_path)
    assert session.closing_lines(tmp_path) == session.sweep_lines(tmp_path) == []
    assert session.last_words(tmp_path / "a.json") == [] and session.errors(tmp_path / "logs") == {}
    with pytest.raises(OSError, match=r"a\.json"):
        session.stale_files({str(tmp_path / "a.json"): "{}"})


def test_last_words_of_a_log_that_is_not_there_are_none(tmp_path: Path) -> None:
    assert session.last_words(tmp_path / "no.log") == []
    (tmp_path / "a.log").write_bytes(b"one\n\ntwo\xff\n")
    assert session.last_words(tmp_path / "a.log", 1) == ["two\ufffd"]


def test_lint_drops_one_advice_and_keeps_the_rest() -> None:
    text = (
        "Lints for rule train (line 4, train.smk):\n"
        "    * Specify a conda environment or container for each rule.:\n      Because.\n"
        "    * No log directive defined:\n      Because.\n"
    )
    assert lint.advice(text) == ["rule train (line 4, train.smk): No log directive defined"]


def test_code_inputs_follow_imports_through_functions_and_packages(tmp_path: Path) -> None:
    for name, text in {
        "workflow/scripts/go.py": "import program\ndef f():\n    from stdc.a import thing\n",
        "workflow/scripts/program.py": "import os, json\n",
        "stdc/__init__.py": "",
        "stdc/a/__init__.py": "from . import b\n",
        "stdc/a/b.py": "from ..c import x\nimport numpy\n",
        "stdc/a/thing.py": "",
        "stdc/c.py": "import stdc.a\nTABLE = 'table.yaml'\nOTHER = 'there is no other.yaml'\n",
        "stdc/table.yaml": "",
        "stdc/a/table.yaml": "",
        "stdc/unused.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert code_inputs.code_of(tmp_path, "go") == [
        "stdc/__init__.py",
        "stdc/a/__init__.py",
        "stdc/a/b.py",
        "stdc/a/thing.py",
        "stdc/c.py",
        "stdc/table.yaml",
        "workflow/scripts/go.py",
        "workflow/scripts/program.py",
    ]


def test_code_from_the_future_is_told_before_its_outputs_are_thrown_away(tmp_path: Path) -> None:
    code = [tmp_path / name for name in ("a.py", "b.py")]
    for file in code:
        file.touch()
    assert session.clock_problem(code) is None
    os.utime(code[1], (5000, 5000))
    assert session.clock_problem(code, now=1e12) is None
    problem = session.clock_problem([code[1]], now=1400.0)
    assert problem is not None and problem.startswith(f"{code[1]}: its time lies 3600 s ahead of this machine's clock")


def test_a_folder_of_temporary_files_without_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.temporary_folder_problem() is None

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session.tempfile, "NamedTemporaryFile", full)
    problem = session.temporary_folder_problem()
    assert problem is not None and "No space left on device; make room there" in problem


def test_an_environment_that_may_not_be_looked_at_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.python_beside(tmp_path) == sys.executable
    python = tmp_path / ".venv" / "train" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert session.python_beside(tmp_path) == str(python)

    def forbidden(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", forbidden)
    assert session.python_beside(tmp_path) == sys.executable


RECIPE: dict = {
    "dataset": None,
    "data": {"expect": "any"},
    "train": {"global_batch": 16},
    "hardware": {"devices": 1, "nodes": 1, "micro_batch": None},
    "weights": None,
    "model": {key: {"source": None, "sha256": None} for key in ("pretrained", "init_from")},
    "evaluate": {"protocols": []},
}


class Stated:
    """A resource as Snakemake has it: its value is known, or asking for it raises."""

    def __init__(self, value: object) -> None:
        self._value = value

    @property
    def value(self) -> object:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


@pytest.mark.parametrize(
    ("hardware", "resources", "said"),
    [
        ({}, {}, None),
        ({"devices": 17}, {}, "train.global_batch: 16 for 17 devices; each needs one image at least, so take 16"),
        # Of a profile, or of --set-resources, which the recipe does not see.
        (
            {},
            {"devices": Stated(20)},
            "16 for 20 devices; each needs one image at least, so take 16 devices or fewer (the",
        ),
        ({}, {"devices": 20}, "16 for 20 devices"),
        ({"devices": 17}, {"devices": Stated(4)}, None),
        ({"nodes": 3, "devices": 8}, {}, "for 8 devices on each of 3 nodes"),
        ({"devices": 3, "micro_batch": 4}, {}, None),
        ({"devices": 9, "micro_batch": 1}, {}, "hardware.micro_batch: 1 image per forward pass"),
        # Snakemake computes it when the job is there; the program checks it then.
        ({}, {"devices": Stated(ValueError("not evaluated"))}, None),
    ],
)
def test_more_devices_than_images_are_found_before_anything_runs(hardware, resources, said) -> None:
    config = {**RECIPE, "hardware": {**RECIPE["hardware"], **hardware}}
    found = configuration.contradictions(config, [("tiny.yaml", {"train": {"global_batch": 16}})], {}, resources)
    assert found == [] if said is None else len(found) == 1 and said in found[0], found


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, ("cpu", 1)),
        # Snakemake keeps what was written where a word may be an expression.
        ({"device": SimpleNamespace(raw="gpu"), "devices": SimpleNamespace(value=8)}, ("gpu", 8)),
        ({"device": SimpleNamespace(raw="'gpu' if attempt > 1 else 'cpu'")}, ("cpu", 1)),
        ({"device": "gpu", "devices": 8}, ("gpu", 8)),
    ],
)
def test_the_devices_of_a_training_are_the_profiles_before_the_recipes(resources, expected) -> None:
    assert configuration.devices_of({"device": "cpu", "devices": 1}, resources) == expected


@pytest.mark.parametrize(
    ("asked", "usable", "mask", "cores"),
    # `all` on 64 CPUs of which a quota leaves 4; no quota; a number that the user chose; a mask tighter than the quota.
    [(64, 4, 64, 4), (64, 64, 64, 64), (8, 4, 64, 8), (2, 2, 2, 2)],
)
def test_all_cores_are_those_that_the_quota_leaves(asked: int, usable: int, mask: int, cores: int) -> None:
    assert session.cores_to_use(asked, usable, mask) == cores


def failed(signal: str) -> session.FailedJob:
    return session.FailedJob("train", "train (seed 0)", "logs/train/a.log", "", signal)


def test_stage_killed_for_want_of_memory_is_told_with_what_to_lower() -> None:
    words = session.memory_words(1, 400_000_000)
    first, advice = session.explain([failed("SIGKILL")], {}, here=True, memory=words)[:2]
    assert first.startswith(
        "train (seed 0) was killed by SIGKILL, by the kernel for want of memory (the limit is 0.4 GB"
    )
    assert "limits.memory" in advice and "hardware.workers" in advice
    # Killed by somebody, as far as is known.
    assert "which is often for want of memory" in session.explain([failed("SIGKILL")], {}, here=True)[0]
    assert session.memory_words(0, 400_000_000) is None
    assert session.exit_code([failed("SIGKILL")], {}) == 1


def test_stage_that_was_stopped_and_has_nothing_to_save_asks_for_another_start() -> None:
    assert session.explain([failed("SIGTERM")], {}, here=True) == [
        "train (seed 0) was stopped; the same command starts it again"
    ]
    assert session.exit_code([failed("SIGTERM")], {}) == 75
    saved = {"logs/train/a.log": session.ProgramError("train", 75, "saved")}
    other = session.FailedJob("evaluate", "evaluate", "logs/evaluate/a.log", "", "SIGTERM")
    assert session.exit_code([failed(""), other], saved) == 75
    # A stage that failed beside it is a failure.
    assert session.exit_code([failed(""), session.FailedJob("evaluate", "evaluate", "b", "", "")], saved) == 1
