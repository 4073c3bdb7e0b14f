"""The configuration on its way from files and command line to the rules: types, checks, messages.

Plain Python beside Snakemake; nothing here is used by the programs.
"""

from __future__ import annotations

import copy
import difflib
import math
import re
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import weights_source

KeyPath = Tuple[Any, ...]

#: YAML 1.1 takes `1e-5` for text (it wants `1.0e-5`).
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")

#: Keys whose text is whatever a file system has, or a tab.
_ANY_TEXT = {("dataset",), ("sweep",), ("model", "pretrained", "source"), ("data", "separator")}

_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section with keys of its own",
    "null": "null",
}


def parse_words(value: Any, schema: Mapping[str, Any], text: Mapping[str, str]) -> Any:
    """Give the words of `--config` the types that the schema asks for.

    Snakemake hands nested values over as text, and cuts a path at a `#`.

    Args:
        value: what Snakemake made of the words.
        schema: the schema of `value`.
        text: the untouched text of each top-level key.
    """
    parsed = _parse(value, schema)
    if isinstance(parsed, dict):
        for key, words in text.items():
            part = schema.get("properties", {}).get(key, {})
            if key in parsed and "string" in _types(part):
                parsed[key] = None if words == "" and "null" in _types(part) else words
    return parsed


def _parse(value: Any, schema: Mapping[str, Any]) -> Any:
    types = _types(schema)
    if isinstance(value, Mapping):
        parts = schema.get("properties", {})
        return {key: _parse(item, parts.get(key, {})) for key, item in value.items()}
    if isinstance(value, list):
        return [_parse(item, schema.get("items", {})) for item in value]
    if not isinstance(value, str):
        return value
    if "null" in types and value in ("", "null", "~", "None"):
        return None
    if "boolean" in types and value.lower() in ("true", "false"):
        return value.lower() == "true"
    for name, kind in (("integer", int), ("number", float)):
        if name in types:
            try:
                return kind(value)
            except ValueError:
                pass
    return value


def tidy(value: Any, schema: Mapping[str, Any]) -> Any:
    """A copy with numbers in the form the schema names: `1e-5` is a number, `4.0` a whole number."""
    types = _types(schema)
    if isinstance(value, Mapping):
        parts = schema.get("properties", {})
        return {key: tidy(item, parts.get(key, {})) for key, item in value.items()}
    if isinstance(value, list):
        return [tidy(item, schema.get("items", {})) for item in value]
    if isinstance(value, str) and "number" in types and _EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, float) and "integer" in types and "number" not in types and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and "number" in types and "integer" not in types:
        return float(value)
    return value


def problems(config: Mapping[str, Any], schema: Mapping[str, Any], sources: Sequence[Tuple[str, Any]]) -> List[str]:
    """Everything that is wrong with `config`, one line each, with the file and the key.

    Args:
        config: the merged configuration.
        schema: JSON schema.
        sources: (name, content) of what was merged, later ones win.
    """
    from jsonschema import Draft202012Validator

    found = [
        f"{_source(path, sources)}: {_dotted(path)}: {text!r} has a character that is not printed"
        for path, text in _texts(config)
        if not text.isprintable() and path not in _ANY_TEXT
    ]
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda error: [str(p) for p in error.path])
    for error in errors:
        for path, message in _explain(error):
            found.append(f"{_source(path, sources)}: {_dotted(path)}: {message}")
    for path, number in _numbers(config):
        if not math.isfinite(number):
            found.append(f"{_source(path, sources)}: {_dotted(path)}: {number} is not a finite number")
    return found


def contradictions(
    config: Mapping[str, Any],
    sources: Sequence[Tuple[str, Any]],
    registry: Mapping[str, Any],
    resources: Mapping[str, Any],
) -> List[str]:
    """What no single key shows: values that do not go together.

    Args:
        resources: of the rule `train`, as a profile or `--set-resources` gives them instead of the recipe.
    """
    found = []
    if config["dataset"] is None and config["data"]["expect"] == "cityscapes":
        path: KeyPath = ("data", "expect")
        found.append(
            f"{_source(path, sources)}: dataset: none given, but this recipe is for the full Cityscapes; "
            "add --config dataset=<folder>"
        )
    batch, hardware = config["train"]["global_batch"], config["hardware"]
    counts = {key: _set_number(resources, key) for key in ("devices", "nodes")}
    devices, nodes = (counts[key] or hardware[key] for key in ("devices", "nodes"))
    if batch < devices * nodes:
        path = ("train", "global_batch")
        words = f"{devices} devices" + (f" on each of {nodes} nodes" if nodes > 1 else "")
        given = " and ".join(
            f"the {key} of the rule train, in the profile or in --set-resources" if counts[key] else f"hardware.{key}"
            for key in (("devices", "nodes") if nodes > 1 else ("devices",))
        )
        found.append(
            f"{_source(path, sources)}: train.global_batch: {batch} for {words}; each needs one image at least, so "
            f"take {batch} devices or fewer ({given})"
        )
    elif hardware["micro_batch"] and -(-batch // (devices * nodes) // hardware["micro_batch"]) > batch // (
        devices * nodes
    ):
        # With 3 images on 2 devices one has a single image, and none for a second pass.
        path = ("hardware", "micro_batch")
        found.append(
            f"{_source(path, sources)}: hardware.micro_batch: {hardware['micro_batch']} image per forward pass, and of "
            f"the {batch} images some devices have one pass less than others; take 2, or a number of devices that "
            f"divides train.global_batch"
        )
    for problem in weights_source.judge_problems(config["weights"]):
        found.append(f"{_source(('weights',), sources)}: weights: {problem}")
    for key, problem in weights_source.problems(config["model"], registry):
        found.append(f"{_source(('model', *key.split('.')), sources)}: model.{key}: {problem}")
    names = [protocol["name"] for protocol in config["evaluate"]["protocols"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        path = ("evaluate", "protocols")
        found.append(f"{_source(path, sources)}: evaluate.protocols: the name {name!r} is given twice")
    return found


def _set_number(resources: Mapping[str, Any], name: str) -> Optional[int]:
    """A resource that is stated as a number; None where it is not stated, or has to be computed by Snakemake first."""
    try:
        stated = resources[name]
        # Snakemake 9.0 has the values themselves, later ones have them in objects.
        return int(getattr(stated, "value", stated))
    except Exception:
        # Whatever an expression of the user's raises, Snakemake tells it.
        return None


def devices_of(hardware: Mapping[str, Any], resources: Mapping[str, Any]) -> Tuple[str, int]:
    """Kind and number of the devices that a training gets.

    Args:
        hardware: section of the configuration.
        resources: of the rule `train`, as a profile or `--set-resources` gives them instead of the recipe.
    """
    stated = resources.get("device")
    # A word may be an expression, for all that Snakemake knows before it has a job; it keeps what was written.
    kind = getattr(stated, "raw", stated)
    named = isinstance(kind, str) and re.fullmatch(r"\w+", kind)
    return str(kind if named else hardware["device"]), _set_number(resources, "devices") or int(hardware["devices"])


def merged(*parts: Mapping[str, Any]) -> Dict[str, Any]:
    """Later parts win, section by section; lists are replaced as a whole."""
    result: Dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
                result[key] = merged(result[key], value)
            else:
                result[key] = copy.deepcopy(value)
    return result


def _types(schema: Mapping[str, Any]) -> Tuple[str, ...]:
    types = schema.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)


def _explain(error: Any) -> Iterator[Tuple[KeyPath, str]]:
    """(key, message) for one error of the validator."""
    path, value, rule = tuple(error.absolute_path), error.instance, error.validator_value
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in value:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                listed = ", ".join(known) if len(known) <= 12 else "see workflow/schemas/config.schema.yaml"
                hint = f"did you mean {near[0]}?" if near else f"known keys here: {listed}"
                yield (*path, key), f"unknown key; {hint}"
    elif error.validator == "required":
        for key in rule:
            if key not in value:
                yield (*path, key), "missing"
    elif error.validator == "type":
        kinds = " or ".join(_KINDS[kind] for kind in _types(error.schema))
        yield path, f"{value!r} is not {kinds}"
    elif error.validator == "enum":
        yield path, f"{value!r} is not one of {', '.join('null' if item is None else str(item) for item in rule)}"
    elif error.validator in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        yield path, f"{value!r} is out of range; {_range(error.schema)} is expected"
    elif error.validator == "pattern":
        yield path, f"{value!r} does not have the form {rule}"
    elif error.validator in ("minItems", "minLength", "minProperties"):
        yield path, f"{value!r} is too short; at least {rule} expected"
    elif error.validator in ("maxItems", "maxLength"):
        yield path, f"{value!r} is too long; at most {rule} expected"
    elif error.validator == "uniqueItems":
        yield path, f"{value!r} names something twice"
    else:
        yield path, error.message


def _range(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = " and ".join(f"{word} {schema[key]}" for key, word in words.items() if key in schema)
    return f"{limits} {schema['unit']}" if "unit" in schema else limits


def _texts(value: Any, path: KeyPath = ()) -> Iterator[Tuple[KeyPath, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str):
        yield path, value


def _numbers(value: Any, path: KeyPath = ()) -> Iterator[Tuple[KeyPath, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(item, (*path, index))
    elif isinstance(value, float):
        yield path, value


def _source(path: KeyPath, sources: Sequence[Tuple[str, Any]]) -> str:
    """The last source that has the key, or as much of it as possible; the first where none has anything."""
    best: Optional[str] = None
    depth = -1
    for name, content in sources:
        reached = 0
        part = content
        for key in path:
            try:
                part = part[key]
            except (KeyError, IndexError, TypeError):
                break
            reached += 1
        if reached > depth or reached == depth > 0:
            best, depth = name, reached
    return best or "configuration"


def _dotted(path: KeyPath) -> str:
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text or "configuration"
