"""STDC-Seg on Cityscapes: data, network, training, evaluation.

Importing this package costs nothing: no module here imports paddle at the top level outside `stdc.nn` and `stdc.engine`.
"""

__version__ = "0.1.0"
