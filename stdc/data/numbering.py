"""Whether label ids are Cityscapes' own: a raster of other numbers looks sound and trains a network on nothing.

Annotation tools count 0, 1, 2, simulators have tags of their own, and train ids happen to hold no 255. All of these lie
in 0 to 33, as label ids do. They are told apart by their shares: in street scenes of Cityscapes' numbering 7 (road) and
11 (building) are common, 2 (rectification border) and 10 (rail track) are not.
"""

from __future__ import annotations

import math
from typing import Dict, List, Mapping, NamedTuple, Optional

from stdc.data.labels import IGNORE, LABELS, TRAIN_LABELS, TRAIN_NAMES

#: Below this share of void pixels nothing is suspected; the official splits have about 0.11.
_SUSPICIOUS_VOID = 0.3
#: Of the pixels that are not `unlabeled`. A dataset that labels few classes leaves the rest unlabeled, and is sound.
_SUSPICIOUS_OTHER_VOID = 0.2
#: Trained classes without a pixel. Small datasets lack some, too, so this is a condition and no evidence.
_SUSPICIOUS_MISSING = 3
#: By how much another numbering must explain a pixel better, in the mean logarithm of its likelihood.
_MARGIN = 0.9
#: Share of an id that a numbering does not name: rare, not impossible.
_RARE = 0.001
#: Below this share an id does not count when ids are looked at as a row 0, 1, 2.
_NOISE = 0.0005
#: Ids 0 to 6 are all void in Cityscapes; a row must reach further to be seen here.
_SHORTEST_ROW = 7
_SHARES_SHOWN = 8

_UNLABELED = 0

#: Share of the pixels of street scenes, to one digit: only the order of magnitude counts.
_SHARES: Mapping[str, float] = {
    "road": 0.33, "sidewalk": 0.05, "building": 0.2, "wall": 0.006, "fence": 0.008, "pole": 0.01,
    "traffic light": 0.002, "traffic sign": 0.005, "vegetation": 0.14, "terrain": 0.01, "sky": 0.04, "person": 0.01,
    "rider": 0.001, "car": 0.06, "truck": 0.002, "bus": 0.002, "train": 0.002, "motorcycle": 0.001, "bicycle": 0.004,
    "ego vehicle": 0.04, "rectification border": 0.01, "out of roi": 0.02, "static": 0.01, "dynamic": 0.003,
    "ground": 0.01, "parking": 0.006, "rail track": 0.002, "bridge": 0.003,
}  # fmt: skip


def _tags(names: str) -> Dict[int, str]:
    return dict(enumerate(name.strip() for name in names.split(",")))


#: Other numberings that are met: Cityscapes' name of the class by id, "" where Cityscapes has none.
_NUMBERINGS: Mapping[str, Mapping[int, str]] = {
    "train ids without a 255": dict(enumerate(TRAIN_NAMES)),
    "train ids counted from 1": dict(enumerate(TRAIN_NAMES, start=1)),
    "the tags of the CARLA simulator": _tags(
        ",building,fence,static,person,pole,,road,sidewalk,vegetation,car,wall,traffic sign,sky,ground,bridge,"
        "rail track,,traffic light,static,dynamic,,terrain"
    ),
    "the tags of the CARLA simulator since 0.9.14": _tags(
        ",road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,person,rider,car,"
        "truck,bus,train,motorcycle,bicycle,static,dynamic,,,,ground,bridge,rail track,"
    ),
}
_OWN_ROW = "numbers of its own, counted 0, 1, 2"


class SplitIds(NamedTuple):
    """The label ids of a split.

    Args:
        split: `train` or `val`.
        counts: number of pixels by label id.
    """

    split: str
    counts: Mapping[int, int]

    @property
    def total(self) -> int:
        """Number of pixels."""
        return sum(self.counts.values())

    @property
    def void(self) -> int:
        """Number of pixels that no trained class has."""
        return self.total - sum(self.counts.get(label.id, 0) for label in TRAIN_LABELS)

    @property
    def missing(self) -> List[str]:
        """Trained classes without a pixel."""
        return [label.name for label in TRAIN_LABELS if not self.counts.get(label.id)]


def describe(ids: SplitIds) -> str:
    """One line: the ids by share of pixels, the share of void ones, and the classes without a pixel."""
    common = sorted(ids.counts.items(), key=lambda item: (-item[1], item[0]))
    shares = [f"{_name(label_id)} {_percent(count, ids.total)}" for label_id, count in common[:_SHARES_SHOWN]]
    if len(common) > _SHARES_SHOWN:
        rest = sum(count for _, count in common[_SHARES_SHOWN:])
        shares.append(f"{len(common) - _SHARES_SHOWN} more {_percent(rest, ids.total)}")
    line = f"{ids.split}: label ids by share of pixels: {', '.join(shares)}; void {_percent(ids.void, ids.total)}"
    return f"{line}; without a pixel: {', '.join(ids.missing)}" if ids.missing else line


def problem(ids: SplitIds) -> Optional[str]:
    """Why these label ids cannot be Cityscapes' own, or None. One line."""
    if ids.total == 0:
        return None
    found = None
    if ids.void == ids.total:
        if ids.split != "train" and set(ids.counts) == {_UNLABELED}:
            # Nobody claims anything of these pixels. The mean IoU of such a validation is undefined, which is allowed.
            return None
        found = "no pixel of a trained class"
    elif other_numbering(ids.counts) is not None:
        found = (
            f"{_percent(ids.void, ids.total)} of the pixels are void and {len(ids.missing)} trained classes have none"
        )
    if found is None:
        return None
    looks = f"{_OWN_ROW}, or train ids without a 255" if ids.void == ids.total else other_numbering(ids.counts)
    seen = f"ids from {min(ids.counts)} to {max(ids.counts)}"
    if set(ids.counts) == {_UNLABELED}:
        return f"{ids.split}: {found}: every pixel has id 0 (unlabeled)"
    return (
        f"{ids.split}: {found}; {seen} look like {looks}, expected the ids of cityscapesscripts (7 road, 11 building,"
        " 26 car, ...); convert the *_labelIds.png, or remove them where polygons are there"
    )


def other_numbering(counts: Mapping[int, int]) -> Optional[str]:
    """The numbering that explains the ids of a split far better than Cityscapes' own, or None.

    Args:
        counts: number of pixels by label id.
    """
    ids = SplitIds("", counts)
    claimed = {label_id: count for label_id, count in counts.items() if label_id != _UNLABELED}
    claims = sum(claimed.values())
    if not claims or len(ids.missing) < _SUSPICIOUS_MISSING:
        return None
    void_claims = claims - (ids.total - ids.void)
    if ids.void < _SUSPICIOUS_VOID * ids.total or void_claims < _SUSPICIOUS_OTHER_VOID * claims:
        return None
    own = _fit(claimed, {label.id: _SHARES.get(label.name, _RARE) for label in LABELS})
    best, best_fit = None, own + _MARGIN
    for name, tags in _NUMBERINGS.items():
        fit = _fit(claimed, {tag: _SHARES.get(label, _RARE) for tag, label in tags.items()})
        if fit > best_fit:
            best, best_fit = name, fit
    row = [label_id for label_id, count in claimed.items() if count >= _NOISE * claims]
    in_a_row = len(row) >= _SHORTEST_ROW and sorted(row) == list(range(1, len(row) + 1))
    if best is None and in_a_row and -math.log(len(row)) > own + _MARGIN:
        return _OWN_ROW
    return best


def _fit(counts: Mapping[int, int], shares: Mapping[int, float]) -> float:
    """Mean logarithm of the likelihood of a pixel, under shares that are brought to a sum of 1."""
    total, pixels = sum(shares.values()), sum(counts.values())
    return (
        sum(count * math.log(max(shares.get(label_id, _RARE), _RARE) / total) for label_id, count in counts.items())
        / pixels
    )


def _name(label_id: int) -> str:
    label = next((label for label in LABELS if label.id == label_id), None)
    if label is None:
        return str(label_id)
    return f"{label_id} {label.name}{'' if 0 <= label.trainId < IGNORE else ' (void)'}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
