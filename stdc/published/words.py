"""The verdict in words, for the terminal and the report."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from stdc.published.evidence import FIRST_SEEN, Evidence, WeightsFile
from stdc.published.figures import Reference
from stdc.published.reasons import protocol_text


def comparison(row: Mapping[str, Any]) -> str:
    """What was measured beside the figure that it is compared with."""
    measured = {"mean": row["measured"], "min": row["measured_min"], "max": row["measured_max"]}
    details = f"{row['weights']} weights, {protocol_text(row['protocol']['scales'], row['protocol']['flip'])}"
    return (
        f"val mIoU {_spread_text(measured, details)} against {_published(row)}: "
        f"{row['difference_points']:+.2f} points, tolerance {row['tolerance']:g}"
    )


def no_comparison(row: Mapping[str, Any], main: Mapping[str, Any]) -> str:
    """What was measured, and the nearest figure. The reasons follow apart.

    Args:
        row: of the nearest figure.
        main: mIoU of the final and the best weights under the main protocol, a row of `measured`.
    """
    best = f" with the final weights, {_spread_text(main['best'])} with the best" if main["best"] else ""
    return f"val mIoU {_spread_text(main['final'])}{best}; nearest is {_published(row)}"


def line(verdict: str, summary: str, reasons: Sequence[str]) -> str:
    """The whole verdict on one line."""
    but = f", but: {'; '.join(reasons)}" if reasons else ""
    return f"{verdict}: {summary}{but}"


def why_these_weights(evidence: Evidence) -> str:
    """Why the final weights are the ones that are compared."""
    if evidence.given_weights is not None:
        return "Weights that were given are compared only with the figures that they were published with."
    why = (
        "The final weights are what the recipe ends with; no look at the validation set chose them. They are compared "
        "with every figure whose source does not say that the best weights were taken."
    )
    if evidence.has_best:
        why += (
            " The best weights were chosen by the same validation images that score them, which flatters: they are "
            "compared only with figures chosen the same way."
        )
    return why


def given_name(source: Optional[str]) -> Optional[str]:
    """Weights that were given, by the name of their file: the page may be shared, and folders are nobody's business."""
    return None if source is None else source.rstrip("/").rsplit("/", 1)[-1]


def initialization(evidence: Evidence, reference: Reference) -> Dict[str, Any]:
    """What the training started from."""
    start, file = evidence.start, evidence.weights_file
    if evidence.given_weights is not None:
        text = f"The weights were given ({given_name(evidence.given_weights)}), not trained here."
        return {"kind": "judged", "sha256": file.sha256 if file else None, "text": f"{text}{_first_seen(None, file)}"}
    if start.source is None:
        return {"kind": "random", "text": "The backbone started from random weights."}
    known = file.sha256 if file else start.sha256
    sha256 = f" (sha256 {known[:12]}…)" if known and known != FIRST_SEEN else ""
    if start.whole:
        text = f"The training started from a whole trained network{sha256}.{_first_seen(start.sha256, file)}"
        return {"kind": "network", "sha256": known, "text": text}
    if start.source in reference.backbones[evidence.network.backbone].started_from:
        text = f"The backbone started from {start.source}{sha256}, the ImageNet weights of the published runs."
    else:
        text = (
            f"The backbone started from given weights{sha256}; that they are the published ImageNet weights is the "
            "user's word."
        )
    return {"kind": "given", "sha256": known, "text": f"{text}{_first_seen(start.sha256, file)}"}


def _first_seen(wanted: Optional[str], file: Optional[WeightsFile]) -> str:
    """The sentence about a checksum that only the first download speaks for; whole, so that others can compare it.

    Args:
        wanted: value of the key `sha256`.
    """
    if not (file.first_seen if file else wanted == FIRST_SEEN):
        return ""
    value = f"is {file.sha256}" if file else "was not recorded"
    return f" Their publisher states no checksum; that of the first download (first-seen) {value}."


def caveats(evidence: Evidence, reference: Reference) -> List[str]:
    """What a comparison has to be read with, without forbidding it."""
    sentences = [initialization(evidence, reference)["text"]]
    if evidence.dataset.kind != "synthetic" and evidence.dataset.label_source == "polygons":
        sentences.append(
            "Labels were drawn from polygons; the benchmark scores labelIds images, which differ at edges."
        )
    if any("tf32" in entry.precision for entry in evidence.evaluations["final"]):
        sentences.append("The card rounded the factors of products to 10 bits (TF32); older cards do not.")
    if len(evidence.seeds) == 1 and evidence.given_weights is None:
        sentences.append("One seed: the spread between trainings was not measured here.")
    return sentences


def _published(row: Mapping[str, Any]) -> str:
    return f"{row['published']:.2f} % published ({row['title']})"


def _spread_text(spread: Optional[Mapping[str, Any]], details: str = "") -> str:
    if spread is None:
        return "unknown"
    seeds = f"mean of the seeds, {spread['min']:.2f} to {spread['max']:.2f}" if spread["min"] != spread["max"] else ""
    notes = "; ".join(text for text in (seeds, details) if text)
    return f"{spread['mean']:.2f} %{f' ({notes})' if notes else ''}"
