"""Describe a results folder as an RO-Crate: ro-crate-metadata.json beside the results, each file with its SHA-256.

Needs the package rocrate (requirements/crate.lock); `make crate` sets it up, writes the crate and validates it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

# The tools share arguments, logs, and exit codes with the rules' programs.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import program
from stdc import __version__
from stdc.errors import InputError
from stdc.files import read_json, sha256_file, write_bytes

METADATA = "ro-crate-metadata.json"
_PAPER = "https://doi.org/10.1109/CVPR46437.2021.00959"

#: Media types by suffix; anything else is bytes.
_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".html": "text/html",
    ".md": "text/markdown",
    ".pdparams": "application/octet-stream",
}


def arguments() -> argparse.ArgumentParser:
    parser = program.parser(
        "crate", (__doc__ or "").split("\n\n")[0], "results/mini --license https://creativecommons.org/licenses/by/4.0/"
    )
    parser.add_argument("results", type=Path, metavar="FOLDER", help="a results folder, such as results/mini")
    parser.add_argument("--license", required=True, metavar="URL", help="under which the results are passed on")
    parser.add_argument("--pictures", action="store_true", help="also list the page with pictures of the dataset")
    return parser


def main(options: argparse.Namespace) -> None:
    folder = options.results
    verdict = read_json(folder / "verdict.json")
    if not isinstance(verdict, dict) or not {"name", "summary", "verdict", "seeds"} <= set(verdict):
        raise InputError(f"{folder / 'verdict.json'}: a verdict is expected; run report again")
    provenance = [_provenance(folder, seed) for seed in verdict["seeds"]]
    date = max((str(known.get("finished") or "") for known in provenance), default="")
    if not date:
        raise InputError(f"{folder}: no seed's provenance.json says when it was finished; run train again")
    try:
        from rocrate.model.contextentity import ContextEntity
        from rocrate.rocrate import ROCrate
    except ImportError:
        raise InputError("rocrate is not installed in this Python; `make crate` sets it up") from None

    crate = ROCrate(version="1.1")
    crate.name = f"STDC-Seg: {verdict['name']}"
    crate.description = f"{verdict['verdict']}: {verdict['summary']}"
    # The time is that of the results, so that equal results give equal bytes.
    crate.datePublished = date
    crate.license = crate.add(ContextEntity(crate, options.license, {"@type": "CreativeWork", "name": options.license}))
    software = crate.add(
        ContextEntity(
            crate,
            "#stdc",
            {
                "@type": "SoftwareApplication",
                "name": "stdc",
                "softwareVersion": __version__,
                "description": f"commit {provenance[0].get('commit') or 'not known'}",
            },
        )
    )
    paper = crate.add(
        ContextEntity(
            crate,
            _PAPER,
            {
                "@type": "ScholarlyArticle",
                "name": "Rethinking BiSeNet For Real-time Semantic Segmentation",
                "description": "The method: Fan et al., CVPR 2021",
            },
        )
    )
    crate.root_dataset["citation"] = paper
    files = {path: crate.add_file(dest_path=path, properties=_properties(folder, path)) for path in _files(options)}
    for seed, known in zip(verdict["seeds"], provenance):
        made = [file for path, file in files.items() if path.startswith(f"seed{seed}/")]
        action: Dict[str, Any] = {"@type": "CreateAction", "name": f"Training of seed {seed}", "instrument": software}
        action.update({"result": made, "endTime": known.get("finished"), "startTime": known.get("started")})
        action = {key: value for key, value in action.items() if value}
        crate.root_dataset.append_to("mentions", crate.add(ContextEntity(crate, f"#train-seed{seed}", action)))
    write_bytes(folder / METADATA, _as_json(crate))
    print(f"crate: wrote {folder / METADATA}, {len(files)} files", file=sys.stderr, flush=True)


def _provenance(folder: Path, seed: Any) -> Dict[str, Any]:
    path = folder / f"seed{seed}" / "provenance.json"
    known = read_json(path)
    if not isinstance(known, dict):
        raise InputError(f"{path}: a JSON object is expected; run train again")
    return known


def _files(options: argparse.Namespace) -> List[str]:
    """Files of the results, relative to their folder, without what may not be passed on."""
    found = []
    for place, folders, names in os.walk(str(options.results)):
        # Records of pictures that were predicted during training.
        folders[:] = sorted(name for name in folders if name != "vdl" and not name.startswith("."))
        for name in sorted(names):
            path = (Path(place) / name).relative_to(options.results).as_posix()
            if name != METADATA and not name.startswith(".") and (options.pictures or path != "report.html"):
                found.append(path)
    return sorted(found)


def _properties(folder: Path, path: str) -> Dict[str, Any]:
    file = folder / path
    return {
        "name": path,
        "encodingFormat": _TYPES.get(file.suffix, "application/octet-stream"),
        "contentSize": str(file.stat().st_size),
        "sha256": sha256_file(file),
    }


def _as_json(crate: Any) -> bytes:
    import json

    return (json.dumps(crate.metadata.generate(), indent=1, sort_keys=True) + "\n").encode("utf-8")


if __name__ == "__main__":
    sys.exit(program.run(arguments(), main))
