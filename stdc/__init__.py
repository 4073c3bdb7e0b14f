"""STDC-Seg on Cityscapes: data, network, training, evaluation.

Importing this package costs nothing: outside `stdc.nn` and `stdc.engine` no module imports paddle at the top level.
"""

__version__ = "0.1.0"
