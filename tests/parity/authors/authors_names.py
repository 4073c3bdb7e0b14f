"""What the maker and the tests share about the authors' parameter names."""

from __future__ import annotations

import re
from typing import Dict, Mapping, Sequence

import numpy as np
import seeded

#: A stage under its second name.
_DUPLICATE = re.compile(r"(cp\.backbone\.)?x\d+\.")


def counts(name: str) -> bool:
    """True for a parameter or statistic that has numbers of its own."""
    return not _DUPLICATE.match(name) and not name.endswith("num_batches_tracked")


def weights(shapes: Mapping[str, Sequence[int]], negative: bool = False) -> Dict[str, np.ndarray]:
    """Seeded arrays under the authors' names.

    Args:
        negative: turn every other scale of the decoder's batch norms, whose sign the authors' training ignores.
    """
    arrays = seeded.weights({name: shape for name, shape in shapes.items() if counts(name)})
    if negative:
        for name, array in arrays.items():
            if array.ndim == 1 and name.endswith(".weight") and not name.startswith("cp.backbone."):
                array[::2] *= -1.0
    return arrays
