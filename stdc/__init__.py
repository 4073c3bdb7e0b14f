"""STDC-Seg on Cityscapes: data, network, training, evaluation.

Importing this package costs nothing: only `stdc.nn`, `stdc.training` and `stdc.evaluation` import paddle at the top.
"""

__version__ = "0.1.0"
