"""Recipes as files, looked at before Snakemake reads them.

Snakemake evaluates templates (`__use_yte__`), keeps the last of two equal keys without a word, and copies what aliases
stand for until the memory is full. Here a recipe is only parsed, in bounded time, and refused in one line.
"""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence, Set

import command_line
import plain_files
import yaml

#: A recipe has a few thousand bytes.
MOST_BYTES = 1 << 20
#: Longest value, in characters; paths have at most 4096.
MOST_CHARACTERS = 5000
#: Most values of a recipe, each alias counted as what it stands for.
MOST_VALUES = 10_000
DEEPEST = 20
#: Most digits of a number; no quantity of a recipe has more.
MOST_DIGITS = 30

_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")
}
_INTEGER = "tag:yaml.org,2002:int"
_OPTIONS = ("--configfile", "--configfiles")
_EXIT_FAULT, _EXIT_INPUT = 1, 2


class RecipeError(Exception):
    """A recipe that cannot be used; the message names the file and what is wrong, on one line."""


def read(path: Path) -> Dict[Any, Any]:
    """The content of a recipe.

    Raises:
        RecipeError: it is no file, too large, not UTF-8, not YAML, or YAML that reads as something else than it looks.
        OSError: it cannot be read now, which is no fault of the recipe.
    """
    text = _text(path)
    try:
        _check_depth(path, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"{path}: a table of sections such as name, train and evaluate is expected")
    _Checker(path).check(node)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if "__use_yte__" in content:
        raise RecipeError(
            f"{path}: __use_yte__: this is a template, which runs Python code when Snakemake reads it; write plain YAML"
        )
    return dict(content)


def refuse_bad(argv: Sequence[str]) -> None:
    """End Snakemake, in a line for each, where what its command line says or names of recipes cannot be used.

    Called by profiles/default, which Snakemake reads before the recipes.
    """
    odd = command_line.odd_words(argv)
    for line in odd:
        print(f"stdc: {line}", file=sys.stderr, flush=True)
    code = _EXIT_INPUT if odd else 0
    for name in named(argv):
        try:
            read(Path(name))
        except RecipeError as error:
            print(f"stdc: {error}", file=sys.stderr, flush=True)
            code = code or _EXIT_INPUT
        except OSError as error:
            print(f"stdc: {name}: {error.strerror or error}", file=sys.stderr, flush=True)
            code = _EXIT_FAULT
    if code:
        raise SystemExit(code)


def named(argv: Sequence[str]) -> List[str]:
    """The recipes on a command line of Snakemake."""
    found: List[str] = []
    taking = False
    for word in argv:
        option, equals, value = word.partition("=")
        if option in _OPTIONS:
            taking = True
            found += [value] if equals else []
        elif word.startswith("-"):
            taking = False
        elif taking:
            found.append(word)
    return found


def _text(path: Path) -> str:
    try:
        data = plain_files.read_bytes(path, MOST_BYTES + 1)
    except plain_files.NotAFileError:
        raise RecipeError(f"{path}: not a file; a recipe is read more than once") from None
    except (FileNotFoundError, NotADirectoryError):
        raise RecipeError(f"{path}: no such file") from None
    except ValueError:
        raise RecipeError(f"{str(path)!r}: not a name of a file") from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV):
            raise
        raise RecipeError(f"{path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise RecipeError(f"{path}: {path.stat().st_size} bytes; a recipe has at most {MOST_BYTES}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _check_depth(path: Path, text: str) -> None:
    """Before nodes are composed, which takes a frame of the stack for each level."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                line = event.start_mark.line + 1
                raise RecipeError(f"{path}: line {line}: nested more than {DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Checker:
    """Walks the nodes of a recipe; what an alias stands for is walked once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: Dict[int, int] = {}
        self._open: Set[int] = set()

    def check(self, node: yaml.Node, key: str = "") -> int:
        """Values below a node, aliases counted as what they stand for."""
        if id(node) in self._open:
            raise self._error(node, f"{key}: an alias inside what it stands for")
        if id(node) not in self._sizes:
            self._open.add(id(node))
            self._sizes[id(node)] = self._size(node, key)
            self._open.remove(id(node))
        return self._sizes[id(node)]

    def _size(self, node: yaml.Node, key: str) -> int:
        if node.tag not in _PLAIN_TAGS:
            raise self._error(node, f"{key or 'top'}: the tag {node.tag!r} is not plain YAML")
        size = 1
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node, key)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(self.check(item, f"{key}[{number}]") for number, item in enumerate(node.value))
        else:
            size += self._mapping(node, key)
        if size > MOST_VALUES:
            raise self._error(node, f"{key or 'top'}: more than {MOST_VALUES} values, with what aliases stand for")
        return size

    def _mapping(self, node: yaml.Node, key: str) -> int:
        lines: Dict[str, int] = {}
        size = 0
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise self._error(name, f"{key or 'top'}: a key is a word, not a list or a table")
            dotted = f"{key}.{name.value}" if key else str(name.value)
            self._check_scalar(name, dotted[:100])
            if name.value in lines:
                raise self._error(name, f"{dotted}: given twice, first on line {lines[name.value]}; one would be lost")
            lines[name.value] = name.start_mark.line + 1
            size += 1 + self.check(value, dotted)
        return size

    def _check_scalar(self, node: yaml.ScalarNode, key: str) -> None:
        text = node.value
        if len(text) > MOST_CHARACTERS:
            raise self._error(node, f"{key}: {len(text)} characters; at most {MOST_CHARACTERS} are expected")
        if node.tag == _INTEGER:
            if len(text) > MOST_DIGITS:
                raise self._error(node, f"{key}: a number of {len(text)} digits")
            if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
                raise self._error(node, f"{key}: YAML reads {text} as another number; write it without 0 in front or :")

    def _error(self, node: yaml.Node, message: str) -> RecipeError:
        return RecipeError(f"{self._path}: line {node.start_mark.line + 1}: {message}")
