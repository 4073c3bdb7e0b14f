"""What the rooms call a table of arrays. Imports NumPy and nothing else, so that all of them can use it."""

from __future__ import annotations

from typing import Dict

import numpy as np

#: Parameters and running statistics of a network by name.
Arrays = Dict[str, np.ndarray]
