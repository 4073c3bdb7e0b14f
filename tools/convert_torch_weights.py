"""Convert a checkpoint of the authors' torch code into weights that this pipeline and PaddleSeg read.

Takes STDCNet813M_73.91.tar, STDCNet1446_76.47.tar, model_maxmIOU50.pth and their like. Needs no torch, executes nothing
that the file contains, and writes only what fills the whole network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc.errors import InputError

SUFFIXES = (".pdparams", ".safetensors")


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "convert_torch_weights", __doc__ or "", "--input STDCNet813M_73.91.tar --output stdc1.safetensors"
    )
    parser.add_argument("--input", type=Path, required=True, metavar="FILE", help="checkpoint of the authors' code")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="ends in .pdparams or .safetensors")
    parser.add_argument(
        "--plain-batch-norm",
        action="store_true",
        help="the decoder was trained with torch's batch norm; the authors' code trains it with in-place activated "
        "batch norm, which ignores the sign of its scale",
    )
    return parser


def main(options: argparse.Namespace) -> None:
    if options.output.suffix not in SUFFIXES:
        raise InputError(f"--output: {options.output}: weights end in {' or '.join(SUFFIXES)}")
    from stdc.machine import devices
    from stdc.weights import array_files
    from stdc.weights.torch_files import read_torch
    from stdc.weights.torch_names import backbone_name, convert

    stored = array_files.check_numbers(read_torch(options.input), str(options.input))
    arrays = convert(stored, inplace_abn=False if options.plain_batch_norm else None)
    name = backbone_name(arrays)
    if name is None:
        first = next(iter(sorted(arrays)))
        raise InputError(f"{options.input}: weights of another network, for example {first}")
    devices.prepare("cpu", 1)
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_backbone, load_segmentor

    model = build_segmentor(name)
    whole = any(key.startswith("cp.") for key in arrays)
    (load_segmentor if whole else load_backbone)(model, arrays, str(options.input))
    write = array_files.write_pdparams if options.output.suffix == ".pdparams" else array_files.write_safetensors
    write(options.output, arrays)
    kind = "segmentor" if whole else "ImageNet backbone"
    print(f"{options.output}: {name} {kind}, {len(arrays)} arrays", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
