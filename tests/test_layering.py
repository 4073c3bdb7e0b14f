"""Who may import whom, and what is absent where. The rules are those of ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((REPOSITORY / "workflow" / "scripts").glob("*.py"))
#: What people start and no rule does.
TOOLS = sorted((REPOSITORY / "tools").glob("*.py"))
MODULES = sorted((REPOSITORY / "stdc").rglob("*.py"))
RULE_FILES = [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))]

#: Slow to load, needed by single stages.
HEAVY = {"paddle", "visualdl", "torch", "jinja2"}

#: Where processes are started: ranks, the questions to a device's tools, and pools of workers.
STARTS_PROCESSES = {
    "stdc/machine/joining.py",
    "stdc/machine/commands.py",
    "stdc/machine/lifetime.py",
    "stdc/machine/watcher.py",
    "stdc/machine/pool.py",
    "stdc/training/loader.py",
    # These two start none: file descriptors travel to the loader's workers, and the dataset, pickled.
    "stdc/training/slots.py",
    "stdc/training/worker.py",
}

#: The rooms of `stdc/`, and the rooms that each one imports. What stands in `stdc/` itself is open to all.
ROOMS: Dict[str, Set[str]] = {
    "machine": set(),
    "nn": set(),
    "data": {"machine"},
    "published": {"data", "evaluation", "prediction"},
    "weights": {"nn"},
    "prediction": {"data", "machine", "nn", "weights"},
    "evaluation": {"data", "machine", "prediction"},
    "training": {"data", "evaluation", "machine", "nn", "prediction", "weights"},
    "results": {"data", "evaluation", "published"},
    "report": {"data", "evaluation", "machine", "prediction", "published", "results"},
    "doctor": {"data", "evaluation", "machine", "nn", "prediction", "published", "training"},
}

#: Names of accelerators. Which kinds there are, and what differs between them, is known in two places.
DEVICE_NAMES = {"gpu", "iluvatar_gpu"}
KNOWS_DEVICES = {"machine", "doctor"}


class Import(NamedTuple):
    module: str
    at_top: bool


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def imports(path: Path) -> List[Import]:
    """Every import of a file; `at_top` is false inside functions and under TYPE_CHECKING."""
    found: List[Import] = []

    def visit(node: ast.AST, top: bool) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            top = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            top = False
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)}: relative import; write stdc.… in full"
            found.extend(Import(f"{node.module}.{alias.name}", top) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child, top)

    visit(ast.parse(path.read_bytes(), filename=str(path)), True)
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def calls(path: Path) -> Set[str]:
    """Dotted names that a file calls or mentions, such as `paddle.load` or `sys.argv`."""
    return {ast.unparse(node) for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Attribute)}


def test_programs_and_package_do_not_import_snakemake() -> None:
    assert [
        name_of(path) for path in SCRIPTS + MODULES if any(within(i.module, "snakemake") for i in imports(path))
    ] == []


def test_the_workflow_does_not_import_the_package() -> None:
    importing = re.compile(r"^\s*(?:import|from)\s+(?:stdc|program)\b", re.MULTILINE)
    assert [name_of(path) for path in RULE_FILES if importing.search(path.read_text())] == []
    lib = sorted((REPOSITORY / "workflow" / "lib").glob("*.py"))
    assert [name_of(path) for path in lib if any(within(i.module, "stdc") for i in imports(path))] == []


def test_the_network_knows_neither_files_nor_data() -> None:
    foreign = (
        "stdc.data",
        "stdc.files",
        "stdc.machine",
        "stdc.weights",
        "stdc.training",
        "stdc.evaluation",
        "pathlib",
        "os",
        "io",
        "shutil",
        "subprocess",
    )
    for path in MODULES:
        if within(name_of(path).replace("/", "."), "stdc.nn"):
            assert [i.module for i in imports(path) if any(within(i.module, name) for name in foreign)] == [], name_of(
                path
            )
            opened = [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, ast.Name) and n.id == "open"]
            assert opened == [], name_of(path)


def test_the_data_package_never_imports_paddle_or_what_stands_above_it() -> None:
    for path in MODULES:
        if name_of(path).startswith("stdc/data/"):
            above = ("paddle", "stdc.nn", "stdc.training", "stdc.evaluation", "stdc.published", "stdc.report")
            assert [i.module for i in imports(path) if any(within(i.module, name) for name in above)] == [], name_of(
                path
            )


def test_only_programs_parse_arguments() -> None:
    for path in MODULES:
        assert not any(within(i.module, "argparse") for i in imports(path)), name_of(path)
        # The provenance quotes the command line; that is reading, not parsing.
        if name_of(path) != "stdc/provenance.py":
            assert "sys.argv" not in calls(path), name_of(path)


def test_only_the_launcher_and_worker_pools_start_processes() -> None:
    starters = ("subprocess", "multiprocessing", "concurrent.futures.ProcessPoolExecutor", "pty")
    started = {
        "os.fork",
        "os.system",
        "os.popen",
        "os.posix_spawn",
        "os.execv",
        "concurrent.futures.ProcessPoolExecutor",
    }
    found = {
        name_of(path)
        for path in MODULES + SCRIPTS
        if any(within(i.module, name) for i in imports(path) for name in starters) or calls(path) & started
    }
    assert found == STARTS_PROCESSES


def room_of(module: str) -> str:
    """ "nn" of stdc.nn.blocks; empty for a module of `stdc/` itself and for foreign ones."""
    parts = module.split(".")
    return parts[1] if parts[0] == "stdc" and len(parts) > 1 and parts[1] in ROOMS else ""


def test_rooms_import_the_rooms_below_them_and_no_others() -> None:
    found: Dict[str, Set[str]] = {path.name: set() for path in (REPOSITORY / "stdc").iterdir() if path.is_dir()}
    found.pop("__pycache__", None)
    at_the_door: Dict[str, Set[str]] = {}
    for path in MODULES:
        room = room_of(name_of(path).replace("/", "."))
        imported = {room_of(item.module) for item in imports(path)} - {"", room}
        if room:
            found[room] |= imported
        elif imported:
            at_the_door[path.name] = imported
    assert found == ROOMS
    # The colors of the classes stand in the table of labels; the protocols of evaluation are read with their stage.
    assert at_the_door == {"pictures.py": {"data"}, "stages.py": {"prediction"}}


def test_the_rooms_have_no_circle() -> None:
    left = dict(ROOMS)
    while left:
        lowest = {room for room, below in left.items() if not below & set(left)}
        assert lowest, sorted(left)
        left = {room: below for room, below in left.items() if room not in lowest}


def test_only_machine_and_doctor_tell_devices_apart() -> None:
    """All others ask `stdc/machine/devices.py`. Help texts and the schema list the names for people."""
    found = set()
    for path in MODULES + SCRIPTS + TOOLS:
        words = {node.value for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Constant)}
        if words & DEVICE_NAMES:
            parts = name_of(path).split("/")
            found.add(parts[1] if parts[0] == "stdc" else name_of(path))
    assert found == KNOWS_DEVICES


def test_no_pickled_code_is_executed() -> None:
    forbidden = {
        "pickle.load",
        "pickle.loads",
        "paddle.load",
        "torch.load",
        "joblib.load",
        "dill.load",
        "marshal.loads",
    }
    for path in MODULES + SCRIPTS:
        assert calls(path) & forbidden == set(), name_of(path)
        names = {node.func.id for node in ast.walk(ast.parse(path.read_bytes())) if _is_named_call(node)}
        assert names & {"eval", "exec", "__import__"} == set(), name_of(path)


def _is_named_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def test_yaml_is_read_without_constructors() -> None:
    for path in MODULES + SCRIPTS:
        assert calls(path) & {"yaml.load", "yaml.unsafe_load", "yaml.full_load"} == set(), name_of(path)


def local_file(module: str) -> List[Path]:
    """The files that importing a module of this repository runs."""
    if not within(module, "stdc"):
        beside = REPOSITORY / "workflow" / "scripts" / f"{module.split('.')[0]}.py"
        return [beside] if beside.is_file() else []
    parts = module.split(".")
    stems = [REPOSITORY.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    return [file for stem in stems for file in (stem / "__init__.py", stem.with_suffix(".py")) if file.is_file()]


def loaded_at_start(program: Path) -> Iterator[str]:
    """Foreign packages that are loaded before a program has read its arguments."""
    waiting, seen = [program], set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for item in imports(path):
            if item.at_top:
                waiting.extend(local_file(item.module))
                yield item.module.split(".")[0]


@pytest.mark.parametrize("program", [path for path in SCRIPTS if path.stem != "program"], ids=lambda path: path.stem)
def test_programs_answer_help_without_loading_heavy_libraries(program: Path) -> None:
    assert set(loaded_at_start(program)) & HEAVY == set()


@pytest.mark.parametrize("path", SCRIPTS + MODULES, ids=name_of)
def test_sources_are_valid_python_3_8(path: Path) -> None:
    ast.parse(path.read_bytes(), filename=str(path), feature_version=(3, 8))


def test_every_rule_with_a_program_is_named_after_it() -> None:
    for path in RULE_FILES:
        for rule, body in re.findall(
            r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", path.read_text(), re.MULTILINE | re.DOTALL
        ):
            for program in re.findall(r'program=script\("(\w+)"\)', body):
                assert program == rule
                assert f'code=code("{rule}")' in body


def test_every_program_has_a_rule() -> None:
    named: Set[str] = set()
    for path in RULE_FILES:
        named |= set(re.findall(r'script\("(\w+)"\)', path.read_text()))
    assert {path.stem for path in SCRIPTS} - named == {"program"}


def test_code_inputs_name_what_python_really_loads(tmp_path: Path) -> None:
    """Code as a rule's input: the import statements that were read against the modules that were loaded."""
    sys.path.insert(0, str(REPOSITORY / "workflow" / "lib"))
    try:
        import code_inputs
    finally:
        sys.path.pop(0)
    for program in ("check_dataset", "convert_labels", "create_lists"):
        declared = set(code_inputs.code_of(REPOSITORY, program))
        script = REPOSITORY / "workflow" / "scripts" / f"{program}.py"
        watch = (
            "import runpy, sys; sys.argv[1:] = ['--help']; sys.path.insert(0, sys.argv[0].rpartition('/')[0])\n"
            "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
            "except SystemExit: pass\n"
            "print('\\n'.join(str(m.__file__) for m in list(sys.modules.values()) if getattr(m, '__file__', None)))"
        )
        # As `python script --help`, but with a look at what was loaded.
        command = [sys.executable, "-c", f"import sys; sys.argv[:] = sys.argv[1:]\n{watch}", str(script)]
        loaded = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        files = {Path(line) for line in loaded.stdout.splitlines() if line.startswith(str(REPOSITORY))}
        ours = {name_of(file) for file in files if not name_of(file).startswith(".venv")}
        assert ours - declared == set()
        assert {f"workflow/scripts/{program}.py", "workflow/scripts/program.py", "stdc/errors.py"} <= declared


def test_profile_keys_belong_to_one_kind_of_profile() -> None:
    """`default` wins over --profile, and a key given twice is replaced as a whole: shared keys would lose settings.

    What is set per rule is put together by the workflow (`keep_profiles` in common.smk).
    """
    kinds = {"default": "always", "ci": "place", "slurm": "place", "cuda": "device", "corex": "device"}
    folders = {path.parent.name: path for path in (REPOSITORY / "profiles").glob("*/config.yaml")}
    assert set(folders) == set(kinds)
    owners: Dict[str, Set[str]] = {}
    for name, path in folders.items():
        for key in re.findall(r"^([a-z][\w-]*):", path.read_text(), re.MULTILINE):
            owners.setdefault(key, set()).add(kinds[name])
    assert {key: owner for key, owner in owners.items() if len(owner) > 1} == {"set-resources": {"place", "device"}}


def test_slurm_profile_states_time_and_memory_of_every_stage_that_is_handed_over() -> None:
    """One table is what a user edits; a stage that is missing there would get a default that nobody looks at."""
    handed_over = set()
    for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"):
        for block in re.split(r"^ *rule (?=\w*:)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            if "shell:" in block and "localrule: True" not in block:
                handed_over.add(block.partition(":")[0])
    profile = (REPOSITORY / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8")
    table = profile.partition("set-resources:\n")[2]
    stages = re.findall(r"^  (\w+): \{runtime: \d+, mem_mb: .+\}$", table, re.MULTILINE)
    assert set(stages) == handed_over and len(stages) == len(set(stages))


#: Names of arguments that hold the configuration or a section of it, and the types of what is not parsed.
SECTION_NAMES = {"config", "section", "model", "train", "data", "evaluate", "synthetic", "hardware", "speed", "report"}
UNPARSED = {
    f"{outer}{kind}[str, Any]{end}" for outer, end in (("", ""), ("Optional[", "]")) for kind in ("Dict", "Mapping")
}

#: Where the configuration is parsed: the functions that take it as it is written. Everything else gets dataclasses.
DOORS = {
    "stdc/doctor/plan.py": {"make_plan", "_generated"},
    "stdc/parts.py": {"part_of"},
    "stdc/published/configured_run.py": {"configured_run", "_start", "_counts"},
    "stdc/recipe.py": {"resolve", "normalization", "kernels_of", "_effective", "_preset"},
    "stdc/report/merged_recipe.py": {"recipe_text"},
    "stdc/stages.py": {"_separator"},
    "stdc/weights/fetch.py": {"start_of"},
}


def test_a_section_of_the_configuration_is_parsed_at_a_door_and_goes_no_further_as_a_mapping() -> None:
    found: Dict[str, Set[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                annotation = ast.unparse(argument.annotation) if argument.annotation is not None else ""
                if argument.arg in SECTION_NAMES and annotation in UNPARSED:
                    found.setdefault(name_of(path), set()).add(node.name)
    assert found == DOORS


def test_the_page_on_the_architecture_names_every_room_and_every_rule_and_no_file_that_is_not_there() -> None:
    page = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert [room for room in ROOMS if f"`stdc/{room}/`" not in page] == []
    rules = re.findall(r"^ *rule (\w+):", "".join(path.read_text() for path in RULE_FILES), re.MULTILINE)
    assert [rule for rule in rules if rule != "all" and rule not in page] == []
    places = (REPOSITORY, REPOSITORY / "stdc", REPOSITORY / "stdc" / "training", REPOSITORY / "stdc" / "data")
    named = {*re.findall(r"`([\w/]+\.(?:py|smk))`", page)} - {"program.py"}
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []
