"""A sweep as a page: its experiments, every two of them, and the comparison with the first."""

from __future__ import annotations

import stdc
from stdc.report.compare_page import COMPARE
from stdc.report.html import environment, style_sheet
from stdc.results.comparison import Comparison
from stdc.results.sweep_summary import Summary

#: Goes on where the page of a comparison has room for more.
SWEEP = "sweep.html"


def render(summary: Summary, comparison: Comparison) -> str:
    """The summary as one HTML page without script or network; it may be shared, its links lead to the experiments."""
    template = environment(True).get_template(SWEEP)
    return template.render(
        style=style_sheet(), version=stdc.__version__, comparison=comparison, summary=summary, base=COMPARE
    )
