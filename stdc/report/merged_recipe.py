"""The configuration of a run as a recipe that can be run again."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from stdc.report.sharing import path_free_argument, without_secrets

#: Sections of the report stage that a recipe may hold; the dataset and the hardware belong to the place it runs at.
_SECTIONS = ("name", "seeds", "synthetic", "data", "model", "train", "evaluate", "speed", "report")


def recipe_text(config: Mapping[str, Any], shared: bool) -> str:
    """The effective recipe as YAML, every default written out: `snakemake --configfile` takes it as it stands.

    Args:
        config: of the report stage.
        shared: for the page that may be shared, which names no place of the user's machine.
    """
    import yaml

    recipe: Dict[str, Any] = {name: config[name] for name in _SECTIONS if name in config}
    if config.get("dataset_kind") != "synthetic":
        recipe.pop("synthetic", None)
    if shared:
        recipe = _without_places(recipe)
    text: str = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    return without_secrets(text)


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_places(entry) for entry in value]
    return path_free_argument(value) if isinstance(value, str) else value
