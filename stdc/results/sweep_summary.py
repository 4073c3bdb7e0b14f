"""A sweep in figures: each experiment with its spread over the seeds, and every two of them held against each other."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from stdc.errors import InputError
from stdc.results.comparison import Run, interval_of, over_seeds, read_run, resampled_scores, score_of
from stdc.results.formatting import NONE

#: What is summed up: the score of the final weights under the main protocol.
MAIN_SCORE = "mIoU"


@dataclasses.dataclass(frozen=True)
class Spread:
    """Values of several seeds, in percent or points.

    Attributes:
        values: one per seed.
        sd: sample standard deviation; None for one value.
    """

    values: Sequence[float]
    mean: float
    sd: Optional[float]
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One variant. `folder` holds its results, relative to the sweep's; `miou` is None where no class occurs."""

    name: str
    folder: str
    seeds: Sequence[int]
    miou: Optional[Spread]


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two experiments: `second` less `first`, in points.

    Attributes:
        over_seeds: of the seeds one by one; what it spreads over is chance of order, augmentation and first weights.
        interval: where the difference of the means lies when other images of the same kind are drawn, with 95 %
            confidence; None where no images are common.
    """

    first: str
    second: str
    over_seeds: Spread
    interval: Optional[Tuple[float, float]]

    @property
    def certain(self) -> bool:
        """Whether neither the choice of images nor one of several seeds turns the sign of the difference."""
        return (
            self.interval is not None
            and len(self.over_seeds.values) > 1
            and not self.interval[0] <= 0 <= self.interval[1]
            and not self.over_seeds.low <= 0 <= self.over_seeds.high
        )


@dataclasses.dataclass(frozen=True)
class Summary:
    """A sweep.

    Attributes:
        images: why, or over how many images, intervals were taken.
    """

    name: str
    experiments: Sequence[Experiment]
    pairs: Sequence[Pair]
    images: str

    def lines(self) -> List[str]:
        """For a terminal: one line per experiment, held against the first."""
        against = {pair.second: pair for pair in self.pairs if pair.first == self.experiments[0].name}
        width = max(len(one.name) for one in self.experiments)
        lines = [f"sweep {self.name}: {MAIN_SCORE} of the final weights, %"]
        for one in self.experiments:
            text = f"  {one.name:<{width}}  {spread_text(one.miou)}"
            if one.name in against:
                text += f"  {pair_text(against[one.name])}"
            lines.append(text)
        return lines

    def as_document(self) -> Dict[str, Any]:
        """What `summary.json` holds."""
        pairs = [{**dataclasses.asdict(pair), "certain": pair.certain} for pair in self.pairs]
        return {
            "name": self.name,
            "score": f"{MAIN_SCORE} of the final weights, %",
            "experiments": [dataclasses.asdict(one) for one in self.experiments],
            "pairs": pairs,
            "images": self.images,
            "lines": self.lines(),
        }

    def as_markdown(self) -> str:
        """What `summary.md` holds."""
        rows = [f"# Sweep {self.name}", "", f"{MAIN_SCORE} of the final weights, %.", ""]
        rows += [
            "| experiment | mean | standard deviation | least to most | seeds | report |",
            "|---|---|---|---|---|---|",
        ]
        for one in self.experiments:
            figures = [NONE] * 3
            if one.miou is not None:
                figures = [f"{one.miou.mean:.2f}", _optional(one.miou.sd), f"{one.miou.low:.2f} to {one.miou.high:.2f}"]
            seeds = ", ".join(map(str, one.seeds))
            rows.append(f"| {one.name} | {' | '.join(figures)} | {seeds} | [report]({one.folder}/report.html) |")
        if self.pairs:
            rows += ["", f"Differences in points; 95 % interval over images: {self.images}.", ""]
            rows += ["| | less | difference | over images | over seeds |", "|---|---|---|---|---|"]
        for pair in self.pairs:
            interval = NONE if pair.interval is None else f"{pair.interval[0]:+.2f} to {pair.interval[1]:+.2f}"
            seeds = f"{pair.over_seeds.low:+.2f} to {pair.over_seeds.high:+.2f}"
            mark = " *" if pair.certain else ""
            rows.append(f"| {pair.second} | {pair.first} | {pair.over_seeds.mean:+.2f}{mark} | {interval} | {seeds} |")
        if any(pair.certain for pair in self.pairs):
            rows += ["", "\\* neither the choice of images nor a single seed turns its sign."]
        return "\n".join(rows) + "\n"


def read_sweep(folders: Sequence[Path]) -> List[Run]:
    """The results of all experiments, called by the names of their folders.

    Raises:
        InputError: none, one twice, a damaged one, or two with different seeds.
    """
    if not folders:
        raise InputError("summarize: no results folder; name one per experiment")
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise InputError(f"summarize: two results folders have one name: {', '.join(sorted(names))}")
    runs = [dataclasses.replace(read_run(folder), label=folder.name) for folder in folders]
    for run in runs[1:]:
        own, first = ([seed.seed for seed in one.seeds] for one in (run, runs[0]))
        if own != first:
            raise InputError(
                f"{run.folder}: seeds {own}, but {first} in {runs[0].folder}; seeds are compared one by one"
            )
    return runs


def summarize(name: str, runs: Sequence[Run]) -> Summary:
    """Sum up the experiments of a sweep.

    Args:
        name: of the sweep.
        runs: its experiments, with the same seeds each.
    """
    scores = [[score_of(seed, MAIN_SCORE) for seed in run.seeds] for run in runs]
    resampled, images = resampled_scores(runs)
    experiments = [
        Experiment(run.label, run.folder.name, [seed.seed for seed in run.seeds], spread_of(values))
        for run, values in zip(runs, scores)
    ]
    pairs = []
    for one, other in itertools.combinations(range(len(runs)), 2):
        differences = [
            None if low is None or high is None else high - low for low, high in zip(scores[one], scores[other])
        ]
        spread = spread_of(differences)
        if spread is not None:
            # The columns are mIoU and the classes.
            interval = None if resampled is None else interval_of(resampled[other][:, 0] - resampled[one][:, 0])
            pairs.append(Pair(runs[one].label, runs[other].label, spread, interval))
    return Summary(name, experiments, pairs, images)


def spread_of(values: Sequence[Optional[float]]) -> Optional[Spread]:
    """Mean and spread; None where a value is not known."""
    score = over_seeds(values)
    if score.mean is None or score.low is None or score.high is None:
        return None
    known = [value for value in values if value is not None]
    squares = math.fsum((value - score.mean) ** 2 for value in known)
    sd = math.sqrt(squares / (len(known) - 1)) if len(known) > 1 else None
    return Spread(known, score.mean, sd, score.low, score.high)


def spread_text(spread: Optional[Spread]) -> str:
    """ "74.10 ± 0.32 (3 seeds)"; ± is the sample standard deviation."""
    if spread is None:
        return NONE
    if spread.sd is None:
        return f"{spread.mean:.2f} (1 seed)"
    return f"{spread.mean:.2f} ± {spread.sd:.2f} ({len(spread.values)} seeds)"


def pair_text(pair: Pair) -> str:
    """ "+0.42 [+0.10 +0.77]* against base"; the interval is over images."""
    interval = "" if pair.interval is None else f" [{pair.interval[0]:+.2f} {pair.interval[1]:+.2f}]"
    return f"{pair.over_seeds.mean:+.2f}{interval}{'*' if pair.certain else ''} against {pair.first}"


def _optional(value: Optional[float]) -> str:
    return NONE if value is None else f"{value:.2f}"
