# SPDX-License-Identifier: BSD-3-Clause
"""Validates an RO-Crate with roc-validator and no network: its contexts are served from this folder.

    python validate_crate.py FOLDER

prints JSON, ``{"required": [...], "recommended": [...]}``: what was found of either severity. A program of
its own, because the validator's libraries warn when they are imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rocrate_validator import services
from rocrate_validator.models import Severity
from rocrate_validator.utils import document_loader
from rocrate_validator.utils.http import HttpRequester

CONTEXT = Path(__file__).resolve().parents[1] / "standards" / "ro-crate-1.1-context.json"


def fetch(url: str) -> Any:
    if url == "https://w3id.org/ro/crate/1.1/context":
        return json.loads(CONTEXT.read_bytes())
    raise RuntimeError(f"{url} is not served")


class Answer:
    """What the validator reads of a response."""

    status_code = 200
    ok = True
    headers = {"Content-Type": "application/ld+json"}  # noqa: RUF012
    text = CONTEXT.read_text(encoding="utf-8")

    def json(self) -> Any:
        return fetch("https://w3id.org/ro/crate/1.1/context")


def get(_self: HttpRequester, url: str, **_more: Any) -> Answer:
    fetch(url)
    return Answer()


def main(folder: str) -> None:
    document_loader._fetch_json_ld = fetch
    HttpRequester.get = get
    HttpRequester.head = get
    settings = services.ValidationSettings(
        rocrate_uri=folder,
        profile_identifier="process-run-crate",
        requirement_severity=Severity.RECOMMENDED,
    )
    found: dict[str, list[str]] = {"required": [], "recommended": []}
    for issue in services.validate(settings).get_issues():
        kind = "required" if issue.severity is Severity.REQUIRED else "recommended"
        found[kind].append(f"{issue.check.identifier} {issue.message} {issue.violatingEntity or ''}")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(sys.argv[1])
