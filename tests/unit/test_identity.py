"""The run hash: what starts a new run and what does not."""

from __future__ import annotations

import ast
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
from pythons import python_folders

from stdc import recipe
from stdc.stages import TrainStage
from stdc.training import identity
from stdc.training.code_digest import bare_code, code_sha256

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "stdc"
TRAIN = {"preset": "paddleseg", "iterations": 10, "global_batch": 4, "crop_height": 64, "crop_width": 64}
INPUTS = {"manifest": "m", "labels": "l", "train_list": "t", "val_list": "v", "backbone": None}


def stage(train: Dict[str, Any], backbone: str = "stdc1") -> TrainStage:
    return TrainStage(
        network=recipe.Network(backbone),
        recipe=recipe.resolve(train),
        loop=recipe.part_of(recipe.Loop, train),
        separator=",",
        document={},
    )


def make(train: Dict[str, Any] = TRAIN, backbone: str = "stdc1", **changes: Any) -> str:
    values: Dict[str, Any] = {
        "seed": 0,
        "world_size": 1,
        "micro_batch": 4,
        "portable_sync_batch_norm": True,
        "threads": 2,
        "device": "cpu",
        "inputs": INPUTS,
        **changes,
    }
    return identity.run_hash(identity.run_identity(stage(train, backbone), **values))


def test_equal_settings_are_one_run() -> None:
    assert make() == make()


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {**TRAIN, "base_lr": 0.02}},
        {"train": {**TRAIN, "iterations": 11}},
        {"train": {**TRAIN, "ohem_rule": "authors"}},
        {"train": {**TRAIN, "upsampling": "products"}},
        {"train": {**TRAIN, "preset": "authors", "warmup_iterations": 0}},
        {"train": {**TRAIN, "evaluate": False}},
        {"train": {**TRAIN, "eval_interval": 7}},
        {"seed": 1},
        {"world_size": 2},
        {"micro_batch": 2},
        {"threads": 1},
        {"device": "gpu"},
        {"backbone": "stdc2"},
        *({"inputs": {**INPUTS, name: "other"}} for name in INPUTS),
    ],
    ids=str,
)
def test_what_changes_the_weights_is_another_run(changes: Dict[str, Any]) -> None:
    assert make(**changes) != make()


@pytest.mark.parametrize("key", ["save_interval", "log_interval", "keep_checkpoint_max", "prediction_images"])
def test_what_the_loop_does_beside_training_does_not_count(key: str) -> None:
    assert make({**TRAIN, key: 9}) == make()


def test_what_synchronizes_batch_norm_counts_where_there_are_ranks() -> None:
    assert make(portable_sync_batch_norm=False) == make(portable_sync_batch_norm=True)
    two = {"world_size": 2, "device": "gpu"}
    assert make(**two, portable_sync_batch_norm=False) != make(**two, portable_sync_batch_norm=True)


def test_cpu_threads_count_on_a_cpu_only() -> None:
    assert make(device="gpu", threads=1) == make(device="gpu", threads=8)


@pytest.mark.parametrize("package", ["paddle", "cv2", "PIL", "numpy"])
def test_another_version_of_what_computes_is_another_run(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make()
    monkeypatch.setattr(f"{package}.__version__", "0.0.0-other")
    assert make() != before


def test_evaluation_code_counts_where_it_chooses_the_best_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, unchosen = make(), make({**TRAIN, "evaluate": False})
    monkeypatch.setattr(identity, "EVALUATION_CODE", identity.EVALUATION_CODE[:1])
    assert make() != chosen
    assert make({**TRAIN, "evaluate": False}) == unchosen


# ---- code


@pytest.fixture()
def package(tmp_path: Path) -> Path:
    """A copy of the code that is hashed."""
    for name in identity.STEP_CODE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PACKAGE / name, tmp_path / name)
    return tmp_path


def test_comment_docstring_and_layout_do_not_throw_a_run_away(package: Path) -> None:
    before = code_sha256(package, identity.STEP_CODE)
    assert before == code_sha256(PACKAGE, identity.STEP_CODE)
    path = package / "nn" / "losses.py"
    text = path.read_text(encoding="utf-8")
    changed = text.replace('"""Losses', '"""The losses', 1).replace("EDGE_THRESHOLD = 0.1", "EDGE_THRESHOLD  =  0.1")
    path.write_text(changed + "\n\n# a remark\n", encoding="utf-8")
    assert changed != text
    assert code_sha256(package, identity.STEP_CODE) == before


def test_changed_arithmetic_is_another_run(package: Path) -> None:
    before = code_sha256(package, identity.STEP_CODE)
    path = package / "nn" / "losses.py"
    text = path.read_text(encoding="utf-8")
    assert "EDGE_THRESHOLD = 0.1" in text
    path.write_text(text.replace("EDGE_THRESHOLD = 0.1", "EDGE_THRESHOLD = 0.2"), encoding="utf-8")
    assert code_sha256(package, identity.STEP_CODE) != before


def test_moved_code_is_not_forgotten_silently(package: Path) -> None:
    (package / "training" / "schedule.py").unlink()
    with pytest.raises(FileNotFoundError, match=r"training/schedule\.py"):
        code_sha256(package, identity.STEP_CODE)


#: What the hashed code imports and what is not hashed itself, with the reason.
_NOT_HASHED = {
    "arrays.py": "a name for a type",
    "data/codecs.py": "pixels are those that were stored, whatever decodes them",
    "data/decode.py": "pixels are those that were stored, whatever decodes them; their files are hashed themselves",
    "data/frame_cache.py": "gives the pixels that were put in, by checksum, or none",
    "data/entry.py": "names and paths",
    "data/labels.py": "tables of names and colors; the rasters made by them are hashed themselves",
    "data/verified.py": "compares digests",
    "errors.py": "messages",
    "parts.py": "what a part of the recipe is; the resolved recipe is hashed itself",
    "presets.py": "the resolved recipe is hashed itself",
    "recipe.py": "the resolved recipe is hashed itself",
    "units.py": "messages",
}


def test_hashed_code_is_what_a_step_and_its_samples_import() -> None:
    """So the loop, the recorder and the checkpoints are not in it: an edited log line throws no run away."""
    found = closure(["training/step.py", "training/pixels.py", "training/sampler.py", "data/dataset.py"])
    # Weights to start from come in through nn/state.py.
    assert sorted((found - set(_NOT_HASHED)) | {"nn/state.py"}) == sorted(identity.STEP_CODE)
    assert set(_NOT_HASHED) <= found


def closure(names: List[str]) -> Set[str]:
    """Files of the package that importing these runs."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in ast.walk(ast.parse((PACKAGE / name).read_bytes())):
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            for module in modules:
                parts = module.split(".")[1:]
                for count in range(1, len(parts) + 1):
                    file = "/".join(parts[:count]) + ".py"
                    if module.startswith("stdc.") and (PACKAGE / file).is_file():
                        waiting.append(file)
    return seen


# ---- versions of Python


def interpreters() -> List[str]:
    """Every Python from 3.8 on that this machine has, one of each minor version."""
    named = [
        folder / name for folder in python_folders() for name in ("python3", *(f"python3.{n}" for n in range(8, 20)))
    ]
    found: Dict[str, str] = {}
    for path in [Path(sys.executable), *(path for path in named if path.is_file())]:
        code = "import sys; print('%d.%d' % sys.version_info[:2] if sys.version_info >= (3, 8) else '')"
        answer = subprocess.run([str(path), "-c", code], capture_output=True, text=True, check=False, timeout=30)
        if answer.returncode == 0 and answer.stdout.strip():
            found.setdefault(answer.stdout.strip(), str(path))
    return list(found.values())


def test_hash_of_the_code_is_equal_on_every_version_of_python() -> None:
    paths = interpreters()
    if len(paths) < 2:
        pytest.skip("one version of Python on this machine: its hash of the code was compared with no other's")
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from stdc.training.code_digest import code_sha256\n"
        "print(code_sha256(pathlib.Path(sys.argv[1]) / 'stdc', sys.argv[2:]))"
    )
    names = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    digests = {
        path: subprocess.run(
            [path, "-s", "-c", code, str(REPOSITORY), *names],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=environment,
        ).stdout.strip()
        for path in paths
    }
    assert len(set(digests.values())) == 1, digests


def test_f_string_counts_as_it_stands_in_the_source() -> None:
    assert bare_code("x = f'a {b!r:>{c}} d'\n") != bare_code("x = f'a {b!r:>{d}} d'\n")
    assert "f'a {b!r:>{c}} d'" in bare_code("x = f'a {b!r:>{c}} d'\n")
    assert bare_code('def f():\n    """Says."""\n    return 1\n') == bare_code("def f():\n    return 1\n")


def test_parts_of_the_recipe_are_all_in_the_hash() -> None:
    resolved = recipe.resolve(TRAIN)
    fields = {field.name for part in resolved.parts() for field in dataclasses.fields(part)}
    assert fields | {"preset"} == set(resolved.as_dict())
