"""How to cite the method, and the software with its version."""

from __future__ import annotations

from typing import Any

import stdc

PAPER = """@inproceedings{fan2021rethinking,
  title     = {Rethinking {BiSeNet} For Real-time Semantic Segmentation},
  author    = {Fan, Mingyuan and Lai, Shenqi and Huang, Junshi and Wei, Xiaoming and Chai, Zhenhua and Luo, Junfeng
               and Wei, Xiaolin},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2021}
}"""


def bibtex(commit: Any) -> str:
    """Two BibTeX entries; the second names the commit where it is known."""
    note = f",\n  note      = {{commit {commit}}}" if commit else ""
    return (
        f"{PAPER}\n@software{{stdc,\n  title     = {{stdc: {{STDC-Seg}} on Cityscapes as a reproducible pipeline}},\n"
        f"  author    = {{{{The stdc developers}}}},\n  version   = {{{stdc.__version__}}}{note}\n}}"
    )
