"""A hash of Python sources that only counts what they do: comments, docstrings and layout are left out.

Equal on every version of Python. Tokens alone are not: from 3.12 on an f-string is many of them, before it was one.
"""

from __future__ import annotations

import io
import tokenize
from pathlib import Path
from typing import Iterable, Iterator, List, Tuple

from stdc import files

_SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}


def code_sha256(root: Path, names: Iterable[str]) -> str:
    """Hash of the files `names`, given relative to `root`, in their order.

    Raises:
        FileNotFoundError: one of them is not there: moved code must not be forgotten silently.
    """
    texts = [f"{name}\n{bare_code((root / name).read_text(encoding='utf-8'))}" for name in names]
    return files.sha256_text("\0".join(texts))


def bare_code(source: str) -> str:
    """Source without comments, docstrings, blank lines and spaces inside lines."""
    kept: List[str] = []
    at_statement = True
    after_docstring = False
    for kind, text in _tokens(source):
        if after_docstring:
            # Its line break.
            after_docstring = False
            continue
        if kind == tokenize.INDENT:
            kept.append("{")
            at_statement = True
        elif kind == tokenize.DEDENT:
            kept.append("}")
            at_statement = True
        elif kind == tokenize.NEWLINE:
            kept.append("\n")
            at_statement = True
        elif kind == tokenize.STRING and at_statement:
            # A string that is a statement of its own is a docstring.
            after_docstring = True
        else:
            kept.append(text + " ")
            at_statement = False
    return "".join(kept)


def _tokens(source: str) -> Iterator[Tuple[int, str]]:
    """Type and text of each token that counts; an f-string is one string, as it stands in the source."""
    lines = source.splitlines(keepends=True)
    depth = 0
    start = (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name.endswith("STRING_START"):
            if depth == 0:
                start = token.start
            depth += 1
        elif name.endswith("STRING_END"):
            depth -= 1
            if depth == 0:
                yield tokenize.STRING, _between(lines, start, token.end)
        elif depth == 0 and token.type not in _SKIPPED:
            yield token.type, token.string


def _between(lines: List[str], start: Tuple[int, int], end: Tuple[int, int]) -> str:
    (first, first_column), (last, last_column) = start, end
    if first == last:
        return lines[first - 1][first_column:last_column]
    return "".join([lines[first - 1][first_column:], *lines[first : last - 1], lines[last - 1][:last_column]])
