"""A model card in Markdown: what the weights are, how they score, what they were made from and what they are for."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence

import stdc
from stdc.report.citation import bibtex
from stdc.results.formatting import NONE, numbers
from stdc.results.shapes import count, list_of, number, optional, size
from stdc.units import size_text

_SPREAD = optional({"mean": number(), "min": number(), "max": number(), "seeds": list_of(number())})
#: Keys of `verdict.json` that a card needs.
VERDICT = {
    "name": str,
    "verdict": str,
    "summary": str,
    "reasons": list_of(str),
    "caveats": list_of(str),
    "decisive": str,
    "comparisons": list_of({"id": str, "published": number(), "title": str, "url": str}),
    "selected": {"why": str},
    "seeds": list_of(count()),
    "initialization": {"text": str},
    "measured": list_of(
        {"name": optional(str), "scales": list_of(number()), "flip": optional(bool), "images": optional(count()),
         "size": size, "final": _SPREAD, "best": _SPREAD}
    ),
}  # fmt: skip


def model_card(verdict: Mapping[str, Any], provenance: Optional[Mapping[str, Any]] = None) -> str:
    """The card of a results folder. Equal inputs give equal bytes.

    Args:
        verdict: content of `verdict.json`.
        provenance: content of a seed's `provenance.json`, where it is known.
    """
    known = provenance or {}
    decisive = next((row for row in verdict["comparisons"] if row["id"] == verdict["decisive"]), None)
    lines = [
        f"# {verdict['name']}",
        "",
        f"STDC-Seg for semantic segmentation of street scenes, trained with stdc {stdc.__version__}.",
        "",
        "## Verdict",
        "",
        f"**{verdict['verdict']}**: {verdict['summary']}",
        "",
        *[f"- {reason}" for reason in verdict["reasons"]],
        *([""] if verdict["reasons"] else []),
        *_paragraphs(verdict["caveats"]),
        "## Scores",
        "",
        "Validation mIoU in percent, official rule: integer counts, classes that do not occur left out.",
        "",
        "| protocol | scales | flip | images | size | final weights | best weights |",
        "|---|---|---|---|---|---|---|",
        *[_score_row(row) for row in verdict["measured"]],
        "",
        f"Seeds: {', '.join(map(str, verdict['seeds']))}. {verdict['selected']['why']}",
        "",
    ]
    if decisive is not None:
        lines += [
            f"Nearest published figure: {decisive['published']:.2f} % ([{decisive['title']}]({decisive['url']})).",
            "",
        ]
    lines += ["## What it was made from", "", *_origin(known), verdict["initialization"]["text"], ""]
    lines += [
        "## Use",
        "",
        "For research on street scenes like those it was trained on. It labels 19 classes, and each pixel with one of",
        "them, whatever stands there. It was not tested at night, in rain, or on other cameras, and must not steer",
        "anything. Cityscapes is licensed for non-commercial use; what was trained on it inherits that limit.",
        "",
        "## How to cite",
        "",
        "```bibtex",
        bibtex(known.get("commit")),
        "```",
        "",
    ]
    return "\n".join(lines)


def _paragraphs(sentences: Sequence[str]) -> List[str]:
    return [part for sentence in sentences for part in (sentence, "")]


def _score_row(row: Mapping[str, Any]) -> str:
    cells = [
        str(row["name"]),
        numbers(row["scales"]),
        "yes" if row["flip"] else "no",
        str(row["images"]),
        size_text(row["size"]),
        _spread(row["final"]),
        _spread(row["best"]),
    ]
    return f"| {' | '.join(cells)} |"


def _spread(spread: Optional[Mapping[str, Any]]) -> str:
    if not spread:
        return NONE
    several = len(spread["seeds"]) > 1
    return f"{spread['mean']:.2f}" + (f" ({spread['min']:.2f} to {spread['max']:.2f})" if several else "")


def _origin(provenance: Mapping[str, Any]) -> List[str]:
    device = provenance.get("device")
    facts = [
        ("commit", provenance.get("commit")),
        ("run", provenance.get("run_hash")),
        ("dataset manifest, SHA-256", provenance.get("manifest_sha256")),
        ("device", f"{device.get('kind')} {device.get('name', '')}".strip() if isinstance(device, dict) else None),
        ("finished", provenance.get("finished")),
    ]
    lines = [f"- {label}: `{value}`" for label, value in facts if value]
    return [*lines, ""] if lines else []
