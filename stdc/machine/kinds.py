"""The kinds of device; what differs between them is known by `stdc.machine.devices`.

A file of its own, since every program offers the choice and few need what devices.py loads.
"""

#: The processor; CUDA, and the CoreX SDK up to 4.x, whose Paddle believes it runs on CUDA; Iluvatar's plug-in.
KINDS = ("cpu", "gpu", "iluvatar_gpu")
DEFAULT_KIND = KINDS[0]
