"""What another file may call says what it does, and what the network computes says in which shapes."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

STDC = Path(__file__).resolve().parents[2] / "stdc"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(STDC.rglob("*.py"))}
CLASSES: Dict[str, List[ast.ClassDef]] = {}
for _tree in TREES.values():
    for _node in ast.walk(_tree):
        if isinstance(_node, ast.ClassDef):
            CLASSES.setdefault(_node.name, []).append(_node)


def public(tree: ast.Module) -> Iterator[Tuple[str, ast.AST, List[str]]]:
    """Public functions, classes and methods of a module: name, node, and the names of the classes it derives from."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node, []
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, bases_of(node)


def bases_of(node: ast.ClassDef) -> List[str]:
    return [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]


def documented_above(method: str, bases: List[str]) -> bool:
    """Whether a class of ours, from which this one derives, says what the method does."""
    for node in (node for base in bases for node in CLASSES.get(base, ())):
        for own in node.body:
            if isinstance(own, ast.FunctionDef) and own.name == method and ast.get_docstring(own):
                return True
        if documented_above(method, bases_of(node)):
            return True
    return False


def test_public_functions_and_classes_have_docstrings() -> None:
    found = {
        f"{path.relative_to(STDC)}: {name}"
        for path, tree in TREES.items()
        for name, node, bases in public(tree)
        if not ast.get_docstring(node) and not documented_above(name.rpartition(".")[2], bases)  # type: ignore[arg-type]
    }
    assert found == set()


def test_forward_passes_give_their_shapes() -> None:
    forwards = {
        f"{path.relative_to(STDC)}: {name}": ast.get_docstring(node) or ""  # type: ignore[arg-type]
        for path, tree in TREES.items()
        for name, node, _ in public(tree)
        if name.endswith(".forward")
    }
    assert len(forwards) >= 10
    assert {name for name, text in forwards.items() if "(N, " not in text} == set()
