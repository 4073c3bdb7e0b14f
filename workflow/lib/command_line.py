"""What Snakemake's command line loses without a word: an option given twice, a value that is empty.

Plain Python beside Snakemake; nothing here is used by the programs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import plain_files
import yaml

#: Options that take several values, and of which Snakemake keeps only the last mention.
_OPTIONS: Dict[str, Tuple[str, ...]] = {
    "--config": ("--config", "-C"),
    "--configfile": ("--configfile", "--configfiles"),
}


def given_twice(argv: Sequence[str]) -> List[str]:
    """One line for each option whose first mention would be dropped.

    Args:
        argv: the arguments of Snakemake, without the program's name.
    """
    own = list(argv[: argv.index("--")] if "--" in argv else argv)
    lines = []
    for option, names in _OPTIONS.items():
        count = sum(_names(argument) in names for argument in own)
        if count > 1:
            lines.append(
                f"{option}: given {count} times, and Snakemake keeps the last one only; put everything behind one "
                f"{option}"
            )
    return lines


def lost_from_profiles(argv: Sequence[str], profiles: str = "", home: Path = Path("~")) -> List[str]:
    """One line for each profile whose `config` or `configfile` another mention, in a profile or on the line, replaces.

    Args:
        argv: the arguments of Snakemake, without the program's name.
        profiles: value of the variable SNAKEMAKE_PROFILE.
        home: where `.config/snakemake` lies.
    """
    own = list(argv[: argv.index("--")] if "--" in argv else argv)
    lines = []
    for option, names in _OPTIONS.items():
        holders = [
            name
            for name in named_profiles(argv, profiles)
            if any(key in _profile(name, home) for key in (option[2:], f"{option[2:]}s"))
        ]
        if len(holders) > 1 or (holders and any(_names(argument) in names for argument in own)):
            other = holders[1] if len(holders) > 1 else "the command line"
            lines.append(
                f"{option}: the profile {holders[0]} states it, {other} too, and Snakemake keeps one of them only; "
                f"take it out of the profile"
            )
    return lines


def named_profiles(argv: Sequence[str], variable: str = "") -> List[str]:
    """The profiles that a command line and the variable SNAKEMAKE_PROFILE name, in the order in which they are read."""
    own = list(argv[: argv.index("--")] if "--" in argv else argv)
    named = []
    for argument, after in zip(own, [*own[1:], ""]):
        if argument.startswith("--profile="):
            named.append(argument.partition("=")[2])
        elif argument == "--profile":
            named.append(after)
    return [name for name in (named or variable.split(",")) if name and name != "none"]


def plain(text: str) -> Any:
    """A profile as it stands."""
    return yaml.safe_load(text)


def rendered(text: str) -> Any:
    """A profile with the values of its template, as Snakemake renders it."""
    import yte

    return yte.process_yaml(text, require_use_yte=True)


def words_of_profiles(
    names: Sequence[str], key: str, home: Path = Path("~"), read: Callable[[str], Any] = rendered
) -> List[str]:
    """What profiles set per rule, as words of the command line: "train:runtime=60", "train=8".

    Snakemake keeps one of two lists, whether another profile or the command line states the second one.

    Args:
        names: profiles, in the order in which they are read; a later word is meant to win over an earlier one.
        key: "set-resources" or "set-threads".
        home: where `.config/snakemake` lies.
        read: makes values of a profile's text.
    """
    words = []
    for name in names:
        for rule, value in (_profile(name, home, read).get(key) or {}).items():
            if isinstance(value, dict):
                words += [f"{rule}:{resource}={amount}" for resource, amount in value.items()]
            else:
                words.append(f"{rule}={value}")
    return words


def put_together(first: Mapping[str, Any], then: Mapping[str, Any]) -> Dict[str, Any]:
    """Settings per rule, those of `then` winning resource by resource.

    Args:
        first, then: what Snakemake made of the words: rule -> threads, or rule -> its resources.
    """
    together = dict(first)
    for rule, value in then.items():
        if rule in together and hasattr(value, "items"):
            # Of Snakemake's own class, which checks what it holds.
            together[rule] = together[rule].copy()
            together[rule].update(value)
        else:
            together[rule] = value
    return together


def _profile(name: str, home: Path, read: Callable[[str], Any] = plain) -> Mapping[str, Any]:
    """Settings of a profile, found where Snakemake looks; empty where there are none."""
    folders = (Path(name), home.expanduser() / ".config" / "snakemake" / name, Path("/etc/xdg/snakemake") / name)
    for folder in folders:
        for file in sorted(folder.glob("config*.yaml")) if folder.is_dir() else []:
            try:
                settings = read(plain_files.read_text(file))
            except (OSError, ValueError, yaml.YAMLError, RecursionError):
                # Snakemake refuses it in words of its own.
                continue
            return settings if isinstance(settings, dict) else {}
    return {}


def _names(argument: str) -> str:
    """The option that an argument names: "-C" of "-Cname=mine", "--config" of "--config=name=mine"."""
    if argument.startswith("-C"):
        return "-C"
    return argument.split("=", 1)[0]


def odd_words(argv: Sequence[str]) -> List[str]:
    """One line for each word of `--config` that Snakemake ends on with a traceback.

    Args:
        argv: the arguments of Snakemake, without the program's name.
    """
    lines = []
    taking = False
    for argument in argv:
        word = argument
        if _names(argument) in _OPTIONS["--config"]:
            taking = True
            word = argument[2:] if argument.startswith("-C") else argument.partition("=")[2]
        elif argument.startswith("-"):
            taking = False
        key, equals, value = word.partition("=")
        if not taking or not word or (equals and key.isidentifier()):
            continue
        if equals and all(part.isidentifier() for part in key.split(".")):
            first, *inner = key.split(".")
            braces = "".join(f"{{{part}: " for part in inner) + value + "}" * len(inner)
            lines.append(f"--config: {key}: nested keys go in braces: {first}='{braces}'")
        else:
            lines.append(f"--config: {word!r} is not a key and its value, such as name=mine")
    return lines


def empty_values(words: Sequence[str]) -> List[str]:
    """One line for each key of `--config` that has no value, which is what an unset variable of the shell leaves.

    Args:
        words: such as "dataset=/data" and "model={pretrained: {source: }}".
    """
    found = []
    for word in words:
        key, _, value = word.partition("=")
        if not value.strip():
            found.append(key)
        elif value.lstrip()[0] in "{[":
            try:
                found += [f"{key}{path}" for path in _empty_nodes(yaml.compose(value, Loader=yaml.SafeLoader))]
            except (yaml.YAMLError, RecursionError):
                # It is no value at all, and the check of the configuration says so.
                continue
    return [
        f"--config: {key}: empty; is a variable of the shell unset? Give a value, or write null where none is meant"
        for key in found
    ]


def _empty_nodes(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _empty_nodes(value, f"{path}.{key.value}")
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _empty_nodes(value, f"{path}[{index}]")
    elif isinstance(node, yaml.ScalarNode) and not node.value.strip():
        yield path
