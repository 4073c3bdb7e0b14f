"""Where weights come from: a file, an address, or a name in the registry; and what of that may be shown.

An address can carry a secret in many places: a name and a password before the host, a token in the query, in the
parameters after a semicolon, or in the fragment. Such a source is refused before it is written anywhere, and what is
shown of a source is always `shown_source`.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from stdc.errors import InputError, shortened

REGISTRY = Path(__file__).with_name("registry.yaml")

#: Value of a key `sha256`: the first download is believed and remembered, another one later is refused.
FIRST_SEEN = "first-seen"

#: What starts a password, a query, parameters or a fragment.
_SECRETIVE = re.compile(r"[@?;#]")


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that somebody publishes, one entry of `registry.yaml`.

    Attributes:
        name: what the configuration calls them.
        address: where they can be downloaded; None where that needs a browser.
        file: name of the downloaded file.
        sha256: of that file; None where none is public.
        why: why there is no checksum, or where it was found.
        network: "stdc1" or "stdc2".
        whole: a whole segmentor, not a backbone alone.
        about: what they are, and who trained them on what.
        license: as their publisher states it.
    """

    name: str
    address: Optional[str]
    file: str
    sha256: Optional[str]
    why: str
    network: str
    whole: bool
    about: str
    license: str


def registry(path: Path = REGISTRY) -> Dict[str, Published]:
    """The published weights by name."""
    import yaml

    entries: Mapping[str, Mapping[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Published(name=name, **entry) for name, entry in entries.items()}


def is_address(source: str, key: str) -> bool:
    """Whether a source is an http or https address.

    Args:
        key: of the configuration, for messages.
    Raises:
        InputError: an address of another kind, or one that carries a secret.
    """
    if has_secret(source):
        # The address is not repeated in the message: messages end up in logs, and it may hold a password.
        raise InputError(
            f"{key}: this address carries a name, a password, a query or a fragment, which would end up in the "
            "results; download the file by hand and give its path"
        )
    try:
        scheme = urllib.parse.urlsplit(source).scheme
    except ValueError:
        raise InputError(f"{key}: not an address; a path, http or https is expected") from None
    if "://" not in source:
        return False
    if scheme not in ("http", "https"):
        raise InputError(f"{key}: {shortened(scheme)}: is not supported; a path, http or https is expected")
    return True


def has_secret(source: str) -> bool:
    """Whether a source has parts where secrets are. A file of that name that exists is none."""
    if "://" not in source and Path(source).expanduser().exists():
        return False
    return bool(_SECRETIVE.search(source))


def shown_source(source: str) -> str:
    """A source without what may be secret in it, on one line."""
    if "://" in source:
        scheme, _, rest = source.partition("://")
        host, slash, path = rest.partition("/")
        return shortened(f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".split("?")[0].split("#")[0].split(";")[0])
    if has_secret(source):
        return "a source that is not shown"
    return shortened(source, 500)
