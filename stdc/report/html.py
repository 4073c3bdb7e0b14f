"""How the pages are written: templates, the style sheet, and what must not reach a page that may be shared."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stdc.report.sharing import shareable
from stdc.results.formatting import number, numbers, percent
from stdc.units import clock_text, size_text

if TYPE_CHECKING:
    from jinja2 import Environment

STYLE = "style.css"
#: What all pages begin and end with. Templates take its name from here, where the rules' inputs are looked for.
LAYOUT = "layout.html"


@functools.lru_cache(maxsize=None)
def environment(shared: bool) -> Environment:
    """Templates whose values are escaped; on a page that may be shared, secrets and absolute paths are taken out too.

    The filter `drawing` lets the markup of this package's own charts through.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    templates = Environment(
        loader=FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shareable if shared else None,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        percent=percent, number=number, size=_size, numbers=numbers, clock=clock_text, drawing=Markup
    )
    templates.globals["layout"] = LAYOUT
    return templates


def style_sheet() -> str:
    """The style sheet of all pages; they hold it, so that each is one file."""
    return Path(__file__).with_name(STYLE).read_text(encoding="utf-8")


def _size(value: Any) -> str:
    return size_text(value)
