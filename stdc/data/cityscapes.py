"""What the official Cityscapes packages hold.

Images per city: counted in the lists of CoinCheung/BiSeNet (train, val) and HRNet-Semantic-Segmentation (test).
SHA-256: torchvision's prototype datasets and several independent scripts agree. Sizes: folder listings of several
independent users agree. The download site itself shows an MD5 only, after login.
"""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Tuple


class Archive(NamedTuple):
    """One package as published.

    Args:
        size: bytes.
        sha256: hex digest.
        folder: the top folder that is unpacked; the rest (license, README) is not needed.
    """

    size: int
    sha256: str
    folder: str


ARCHIVES: Mapping[str, Archive] = {
    "gtFine_trainvaltest.zip": Archive(
        252_567_705, "40461a50097844f400fef147ecaf58b18fd99e14e4917fb7c3bf9c0d87d95884", "gtFine"
    ),
    "leftImg8bit_trainvaltest.zip": Archive(
        11_592_327_197, "3ccff9ac1fa1d80a6a064407e589d747ed0657aac7dc495a4403ae1235a37525", "leftImg8bit"
    ),
}

#: (height, width) of every image.
IMAGE_SIZE: Tuple[int, int] = (1024, 2048)

CITIES: Mapping[str, Dict[str, int]] = {
    "train": {
        "aachen": 174,
        "bochum": 96,
        "bremen": 316,
        "cologne": 154,
        "darmstadt": 85,
        "dusseldorf": 221,
        "erfurt": 109,
        "hamburg": 248,
        "hanover": 196,
        "jena": 119,
        "krefeld": 99,
        "monchengladbach": 94,
        "strasbourg": 365,
        "stuttgart": 196,
        "tubingen": 144,
        "ulm": 95,
        "weimar": 142,
        "zurich": 122,
    },
    "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
    "test": {"berlin": 544, "bielefeld": 181, "bonn": 46, "leverkusen": 58, "mainz": 298, "munich": 398},
}

HOW_TO_GET = (
    "Register at https://www.cityscapes-dataset.com, accept the license, then run"
    " `csDownload gtFine_trainvaltest.zip leftImg8bit_trainvaltest.zip` (from cityscapesscripts)"
    " and name the folder with the two zips or what they unpack to."
    " To run without it, leave `dataset: null`: a small dataset is generated."
)
