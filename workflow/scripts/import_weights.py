"""Take weights of a whole network that were trained elsewhere, check that they fit, and write them as training does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import program
from stdc.files import sha256_file, write_json
from stdc.stages import read_sections


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "import_weights",
        __doc__ or "",
        "--config speed.json --weights model.pdparams --record weights.json --output imported.pdparams",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="stage configuration: model")
    parser.add_argument(
        "--weights", required=True, metavar="SOURCE", help="weights of a whole network: a file, or a registry's name"
    )
    parser.add_argument(
        "--downloads",
        type=Path,
        default=Path("resources/weights"),
        metavar="FOLDER",
        help="where downloads/ holds files placed by hand, and first-seen/ the checksums that were believed",
    )
    parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="what was taken (JSON)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="weights to write, .pdparams")
    return parser


def main(options: argparse.Namespace) -> None:
    from stdc import recipe
    from stdc.machine import devices

    network = recipe.part_of(recipe.Network, read_sections(options.config, "model")["model"])
    devices.prepare("cpu", 1)
    from stdc.nn.segmentor import build_segmentor
    from stdc.nn.state import load_segmentor, state_arrays, with_unused_heads
    from stdc.weights.array_files import write_pdparams
    from stdc.weights.fetch import judged, obtained
    from stdc.weights.reading import read_weights
    from stdc.weights.sources import shown_source

    log = program.logger("import_weights")
    wanted = judged(options.weights, network.backbone)
    model = build_segmentor(network.backbone)
    with obtained(wanted, options.downloads, log) as path:
        load_segmentor(model, read_weights(path), shown_source(options.weights))
        sha256 = sha256_file(path)
    record = {"source": shown_source(options.weights), "sha256": sha256, "backbone": network.backbone}
    # The weights are written last, so that where they are, their record is too.
    write_json(options.record, {**record, "checksum": wanted.sha256})
    write_pdparams(options.output, with_unused_heads(state_arrays(model)))


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
