"""Which source files a program consists of, read from its import statements.

Rules declare them as inputs: an edit reruns what it touches and nothing else, and no list has to be kept by hand.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import List, Set

_DATA_FILE = re.compile(r"[\w-]+(\.[\w-]+)*\.(yaml|json|html|css|js|csv|txt|svg)")


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
    found: Set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes(), filename=file)):
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
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DATA_FILE.fullmatch(node.value):
            # Opened, not imported: a table, a template.
            beside = Path(file).with_name(node.value)
            if (root / beside).is_file():
                found.add(str(beside))
    return sorted(found)


def _files(root: Path, module: str) -> Set[str]:
    """`stdc.data.labels` -> the files that importing it runs."""
    parts = module.split(".")
    if parts[0] != "stdc":
        beside = Path("workflow/scripts", *parts).with_suffix(".py")
        return {str(beside)} if len(parts) == 1 and (root / beside).is_file() else set()
    files: Set[str] = set()
    for count in range(1, len(parts) + 1):
        stem = Path(*parts[:count])
        for candidate in (stem / "__init__.py", stem.with_suffix(".py")):
            if (root / candidate).is_file():
                files.add(str(candidate))
    return files
