"""Which source files a program consists of, read from its import statements.

Rules declare them as inputs: an edit reruns what it touches and nothing else, and no list has to be kept by hand.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import FrozenSet, Iterator, List, Set

#: A file's name as a string of its own.
_DATA_FILE = re.compile(r"""(["'])(?P<name>[\w-]+(\.[\w-]+)*\.(yaml|json|html|css|js|csv|txt|svg))\1""")
#: What holds the statements of a statement.
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")


def code_of(root: Path, program: str) -> List[str]:
    """The program, every file of this repository that it imports, and the files beside them that they name.

    Imports inside functions count too. Sorted, relative to `root`.
    """
    waiting = [f"workflow/scripts/{program}.py"]
    files: Set[str] = set()
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting.extend(_imports(root, file))
    return sorted(files)


def programs(root: Path) -> List[str]:
    """Names of the programs that rules start."""
    return sorted(path.stem for path in (root / "workflow" / "scripts").glob("*.py") if path.stem != "program")


@functools.lru_cache(maxsize=None)
def _imports(root: Path, file: str) -> List[str]:
    """Files of this repository that `file` imports or names itself, with the packages they lie in."""
    path = root / file
    if path.suffix != ".py" or not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    found: Set[str] = set()
    for node in _statements(ast.parse(text, filename=file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.update(_files(root, alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = Path(file).parts[: -node.level]
                base = ".".join((*package, *filter(None, [base])))
            found.update(_files(root, base))
            for alias in node.names:
                found.update(_files(root, f"{base}.{alias.name}"))
    for match in _DATA_FILE.finditer(text):
        # Opened, not imported: a table, a template.
        beside = Path(file).with_name(match["name"])
        if (root / beside).is_file():
            found.add(str(beside))
    return sorted(found)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement below `tree`. Expressions, nine nodes in ten, are not looked at: Snakemake waits for this."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        for field in _BLOCKS:
            waiting.extend(getattr(node, field, ()))
        yield node


@functools.lru_cache(maxsize=None)
def _files(root: Path, module: str) -> FrozenSet[str]:
    """`stdc.data.labels` -> the files that importing it runs."""
    parts = module.split(".")
    if parts[0] != "stdc":
        beside = Path("workflow/scripts", *parts).with_suffix(".py")
        return frozenset([str(beside)] if len(parts) == 1 and (root / beside).is_file() else [])
    stem = Path(*parts)
    files = set(_files(root, ".".join(parts[:-1]))) if len(parts) > 1 else set()
    for candidate in (stem / "__init__.py", stem.with_suffix(".py")):
        if (root / candidate).is_file():
            files.add(str(candidate))
    return frozenset(files)
