"""Recipes with wrong values, and recipes that are no plain YAML."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import documents
import recipe_files
import yaml
from judging import Run, explained, judge, need, run_main
from mutations import ODD_VALUES, Chance, Mutation, damage
from programs import REPOSITORY
from sound_material import Templates

from stdc import files, recipe


def case_stage(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """The section `train` of a stage's JSON with odd values: a recipe, or a message that names the key."""
    train = dict(yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())["train"])
    fields = sorted(field.name for part in recipe.PARTS.values() for field in dataclasses.fields(part))
    key = chance.choice([*fields, "preset"])
    value = chance.choice(ODD_VALUES)
    train[key] = value
    mutation = Mutation(f"train.{key}: {str(value)[:40]!r}", [key, "train"])

    def resolve() -> None:
        made = recipe.resolve(train)
        made.schedule.per_device_batch(1)
        files.canonical_json(made.as_dict())
        found = made.as_dict()[key]
        need(found == found, f"NaN was taken for train.{key}")

    run = run_main(lambda: explained(resolve), "train")
    return ("success" if judge(run, [mutation], "recipe") else "refused"), [mutation]


#: Texts that YAML reads as something else than they look, or that blow up; each is put into a sound recipe.
_SYNTAX: Dict[str, Callable[[str, Chance], str]] = {
    "a key twice": lambda text, chance: text + f"{chance.choice(_keys(text))}: 1\n",
    "an inner key twice": lambda text, chance: text.replace("  iterations: 4", "  iterations: 4\n  iterations: 5"),
    "an alias in itself": lambda text, chance: text.replace("train:\n", "train: &t\n  x: *t\n"),
    "an alias bomb": lambda text, chance: (
        text
        + "a0: &a0 [1,1,1,1,1,1,1,1,1]\n"
        + "".join(_level(number) for number in range(1, chance.choice((6, 8, 30))))
    ),
    "a merge bomb": lambda text, chance: (
        text + "m0: &m0 {a: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40))
    ),
    "a template": lambda text, chance: f'__use_yte__: true\n?f\'{{open("marker", "w")}}\': 1\n{text}',
    "a tag": lambda text, chance: text + chance.choice(_TAGS) + "\n",
    "many digits": lambda text, chance: text.replace(
        "seeds: [0]", f"seeds: [{'9' * chance.choice((40, 5000, 200_000))}]"
    ),
    "nested deeply": lambda text, chance: (
        text + "x: " + chance.choice(("[", "{a: ")) * chance.choice((30, 5000, 300_000))
    ),
    "an octal number": lambda text, chance: text.replace("iterations: 4", "iterations: 0100"),
    "a number of minutes": lambda text, chance: text.replace("iterations: 4", "iterations: 1:30"),
    "a list as a key": lambda text, chance: text + "? [a, b]\n: 1\n",
    "two documents": lambda text, chance: text + "---\nname: b\n",
    "a list at the top": lambda text, chance: "- a\n- b\n",
    "nothing": lambda text, chance: chance.choice(("", "\n", "# nothing\n", "null\n", "{}\n")),
    "a long text": lambda text, chance: text.replace("name: tiny", "name: " + "x" * chance.choice((10_000, 3_000_000))),
    "many values": lambda text, chance: text + "x: [" + "1, " * 50_000 + "1]\n",
    "control characters": lambda text, chance: text.replace("name: tiny", f'name: "a{chance.choice(_ESCAPES)}b"'),
    "a tab": lambda text, chance: text.replace("  iterations", "\titerations"),
    "an anchor without a name": lambda text, chance: text.replace("name: tiny", "name: & tiny"),
    "an alias of nothing": lambda text, chance: text + "x: *nowhere\n",
}
_TAGS = (
    "x: !!python/object/apply:os.system ['touch marker']",
    "x: !!python/name:os.system",
    "x: !<tag:yaml.org,2002:python/object/new:os.system> [touch marker]",
    "x: !!set {a, b}",
    "x: !!binary aGVsbG8=",
    "!!python/module:os : 1",
    "x: !mine 1",
)
#: As YAML writes them between double quotes.
_ESCAPES = (r"\n", r"\e[31m", r"\u202e", r"\x9b", r"\u2028", r"\0", r"\ud800", r"\u200b")


def _keys(text: str) -> List[str]:
    return re.findall(r"^[a-z]+(?=:)", text, re.MULTILINE)


def _level(number: int) -> str:
    return f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 9)}]\n"


def case_syntax(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A recipe whose text is no plain YAML, before Snakemake reads it."""
    text = (REPOSITORY / "tests" / "workflow" / "tiny.yaml").read_text(encoding="utf-8")
    what = chance.choice([*sorted(_SYNTAX), "bytes", "something else than a file"])
    path = place / "tiny.yaml"
    os.chdir(place)
    if what == "bytes":
        path.write_bytes(damage(text.encode(), chance))
    elif what == "something else than a file":
        what = chance.choice(sorted(documents.OTHER_THINGS))
        documents.OTHER_THINGS[what](path)
    else:
        path.write_bytes(_SYNTAX[what](text, chance).encode("utf-8", "surrogatepass"))
    must_fail = what not in ("bytes", "control characters", "a long text", "an anchor without a name", "nothing")
    run = run_main(lambda: recipe_files.refuse_bad(["--configfile", str(path)]), "snakemake")
    need(not (place / "marker").exists(), "THE RECIPE RAN")
    mutation = Mutation(what, ["tiny.yaml"], must_fail)
    return ("success" if judge(run, [mutation], f"recipe with {what}") else "refused"), [mutation]


def case_recipe(templates: Templates, place: Path, chance: Chance) -> Tuple[str, List[Mutation]]:
    """A recipe file with one thing wrong, given to Snakemake."""
    text = (REPOSITORY / "tests" / "workflow" / "tiny.yaml").read_text(encoding="utf-8")
    kind = chance.choice(("value", "value", "value", "unknown", "damage", "drop", "tag"))
    config = yaml.safe_load(text)
    path = place / "tiny.yaml"
    must_fail = False
    if kind == "damage":
        path.write_bytes(damage(text.encode(), chance))
        culprits = ["tiny.yaml", "Config file", "configuration", *re.findall(r"[a-z_]+", text)]
        what = "damage"
    elif kind == "tag":
        path.write_text(text + f'report: !!python/object/apply:os.system ["touch {place}/marker"]\n')
        culprits, what, must_fail = ["configuration", "tiny.yaml"], "a tag that makes objects", True
    else:
        parent, key = config, chance.choice(sorted(config))
        if isinstance(config[key], dict) and chance.random() < 0.8:
            parent, key = config[key], chance.choice(sorted(config[key]))
        if kind == "drop":
            del parent[key]
            what = f"drop {key}"
        elif kind == "unknown":
            parent[f"{key}_"] = 1
            key, must_fail = f"{key}_", True
            what = f"unknown key {key}"
        else:
            parent[key] = chance.choice([value for value in ODD_VALUES if value != "\ud800"])
            what = f"{key}: {str(parent[key])[:40]!r}"
            must_fail = isinstance(parent[key], float) and parent[key] != parent[key]
        culprits = [str(key), "tiny.yaml"]
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
    python = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(REPOSITORY / ".venv" / "workflow" / "bin" / "python")
    command = [python, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--dry-run", "--quiet", "all"]
    command += ["--configfile", str(path)]
    result = subprocess.run(
        command,
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "STDC_PYTHON": sys.executable},
    )
    need(not (place / "marker").exists(), "THE TAG RAN")
    mutation = Mutation(what, culprits, must_fail)
    run = Run(result.returncode, result.stderr + result.stdout)
    if "not valid JSON or YAML" in run.said or "in load_configfile" in run.said:
        # No YAML at all: Snakemake ends, in its own way, before this project has the word.
        need(run.code == 1 and kind in ("damage", "tag"), f"snakemake: exit code {run.code}")
        return "refused", [mutation]
    end = judge(run, [mutation], "snakemake")
    return ("success" if end else "refused"), [mutation]
