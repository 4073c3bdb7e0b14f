"""Validate an RO-Crate with roc-validator, offline: exit 0 where it is valid, 2 with the issues where it is not.

The validator fetches the vocabulary of RO-Crate from the network. Here it gets the copy that the package rocrate holds,
which is of a later version (1.3) than the crate (1.1); the terms of 1.1 are all in it.
"""

from __future__ import annotations

import importlib.resources
import sys
from typing import Any

import requests
from rocrate_validator import models, services

PROFILE = "ro-crate-1.1"
_VOCABULARY = "https://w3id.org/ro/crate/"


def _answer(session: requests.Session, method: str, url: str, *arguments: Any, **options: Any) -> requests.Response:
    if not url.startswith(_VOCABULARY):
        raise requests.ConnectionError(f"offline: {url}")
    response = requests.Response()
    response.status_code, response.url = 200, url
    response.headers["Content-Type"] = "application/ld+json"
    response._content = importlib.resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()
    return response


def main(folder: str) -> int:
    requests.Session.request = _answer  # type: ignore[method-assign,assignment]
    settings = services.ValidationSettings(
        rocrate_uri=folder, profile_identifier=PROFILE, requirement_severity=models.Severity.REQUIRED
    )
    result = services.validate(settings)
    for issue in result.get_issues():
        print(f"{issue.severity.name} {issue.check.identifier}: {issue.message}", file=sys.stderr)
    print(f"{folder}: {'valid' if result.passed() else 'NOT valid'} by {PROFILE}", file=sys.stderr)
    return 0 if result.passed() else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
