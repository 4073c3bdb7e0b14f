"""What must not stand on a page: secrets on any, and places of the user's machine on the one that may be shared."""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

HIDDEN_PATH = "<path>"
#: Stands for the value of an environment variable that is not shown.
HIDDEN_VALUE = "set; its value is not shown here"

#: What a path may not go on with, in text where nothing says where it ends.
_STOP = r"\s'\"<>|;,()\[\]{}="
_PATH = re.compile(rf"(?<![\w.:/~\u2026-])(?:file://)?(?:~[\w.-]*)?/(?!/)[^{_STOP}]*")
#: `user:password@` before a host, with or without a scheme.
_USER = re.compile(r"(?P<scheme>\b[A-Za-z][\w+.-]*://)?[^\s/@:'\"=,{}\[\]]*:[^\s/@'\"]*@(?=[\w\[])")
_USER_ALONE = re.compile(r"(?P<scheme>\b[A-Za-z][\w+.-]*://)[^\s/@'\"]+@")
#: Where tokens are: what follows ?, # or ; in an address.
_QUERY = re.compile(r"(?P<address>\b[A-Za-z][\w+.-]*://[^\s?#;'\"]+)[?#;][^\s'\"]*")


def without_secrets(text: str) -> str:
    """A text without names, passwords and queries in the addresses it holds."""
    text = _USER_ALONE.sub(r"\g<scheme>", _USER.sub(lambda found: found.group("scheme") or "", text))
    return _QUERY.sub(r"\g<address>", text)


def without_paths(text: str) -> str:
    """A text whose absolute paths are gone; of a file with a suffix the name stays."""
    return _PATH.sub(_name_alone, text)


def path_free_argument(argument: str) -> str:
    """One word of a command line without its absolute path, which may hold spaces."""
    match = re.match(r"^(?P<key>[\w.-]+=)?(?P<path>(?:file://)?(?:~[\w.-]*)?/(?!/).*)$", argument, re.DOTALL)
    if match is None:
        return without_paths(argument)
    return (match.group("key") or "") + _shortened(match.group("path"))


def shareable(value: Any) -> Any:
    """A value as the page that may be shared shows it: text without secrets and paths; anything else as it is."""
    # Markup, of this package's own making, is a str too; its drawings and styles hold no path.
    return without_paths(without_secrets(value)) if type(value) is str else value


def environment(variables: Mapping[str, Any], shared: bool) -> Dict[str, str]:
    """Environment variables to show. Anything may stand in a flag of Paddle's: on a shared page its name must do."""
    return {
        name: HIDDEN_VALUE if shared and name.startswith("FLAGS_") else str(value) for name, value in variables.items()
    }


def _name_alone(match: re.Match[str]) -> str:
    return _shortened(match.group(0))


def _shortened(path: str) -> str:
    name = path.rstrip("/").rsplit("/", 1)[-1]
    # The last folder may be the user's name, the name of a file tells what the command works on.
    return f"\u2026/{name}" if re.search(r"[^.]\.\w{1,10}$", name) and " " not in name else HIDDEN_PATH
