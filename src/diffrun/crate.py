# SPDX-License-Identifier: BSD-3-Clause
"""The run folder as an RO-Crate: its record in the words of Process Run Crate 0.5.

Made from the bytes of ``record.json`` alone, so that the same record gives the same crate; no clock is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from diffrun.files.atomic import write_bytes
from diffrun.outputs import CRATE, RECORD

Entity = dict[str, Any]

_CONTEXT = "https://w3id.org/ro/crate/1.1/context"
_CRATE = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
#: The profile's own words, given in place so that a reader need not fetch a second context.
_WORDS = ("ContainerImage", "containerImage", "environment", "registry", "tag", "sha256")
_FORMATS = {
    ".fits": "application/fits",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".py": "text/x-python",
    ".reg": "text/plain",
    ".txt": "text/plain",
}
_AGENT, _RUN, _IMAGE, _RIGHTS = "#agent", "#run", "#image", "#rights"
_STACK = "https://github.com/lsst/pipe_tasks"


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``ro-crate-metadata.json`` beside the ``record.json`` that is there."""
    write_bytes(folder / CRATE, make(record, (folder / RECORD).read_bytes()))


def make(record: Mapping[str, Any], content: bytes) -> bytes:
    """The crate of a run.

    Parameters
    ----------
    record : mapping
        What ``record.json`` holds, schema 2.
    content : `bytes`
        That file itself.

    Returns
    -------
    crate : `bytes`
        JSON with sorted keys.
    """
    files = list(_files(record, content))
    inputs = list(_inputs(record))
    arguments = list(_values("arg", _arguments(record)))
    environment = list(_values("env", record["environment"]))
    image = list(_image(record["plan"].get("container"), str(record["plan"]["runtime"])))
    tool = _tool(record)
    action = {
        "@id": _RUN,
        "@type": "CreateAction",
        "name": f"difference of {_visits(record)}",
        "description": record["datalad_run"]["cmd"],
        "instrument": _refer(tool),
        "object": _refer(*inputs, *arguments),
        "result": _refer(*files[1:]),
        "startTime": _time(record["started"]),
        "endTime": _time(record["finished"]),
        "agent": {"@id": _AGENT},
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "environment": _refer(*environment),
        **({"containerImage": _refer(*image)} if image else {}),
    }
    fixed = [*_frame(record, files), tool, action]
    graph = [*fixed, *files, *inputs, *arguments, *environment, *image]
    context = [_CONTEXT, {word: _TERMS + word for word in _WORDS}]
    crate = {"@context": context, "@graph": graph}
    return (json.dumps(crate, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def _frame(record: Mapping[str, Any], files: list[Entity]) -> Iterator[Entity]:
    """What every crate has: its descriptor, the folder, the profile, the terms, who ran it."""
    yield {"@id": CRATE, "@type": "CreativeWork", "conformsTo": {"@id": _CRATE}, "about": {"@id": "./"}}
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"LSST difference imaging, {_visits(record)}",
        "description": "A difference image, its sources and a record, made by diffrun.",
        "datePublished": _time(record["finished"]),
        "license": {"@id": _RIGHTS},
        "conformsTo": {"@id": _PROFILE},
        "hasPart": _refer(*files),
        "mentions": {"@id": _RUN},
        "author": {"@id": _AGENT},
    }
    yield {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    yield {
        "@id": _RIGHTS,
        "@type": "CreativeWork",
        "name": "the terms of the input data",
        "description": "The products carry the terms of the visits that they were made from.",
    }
    yield {"@id": _AGENT, "@type": "Person", "name": str(record["platform"]["user"])}


def _files(record: Mapping[str, Any], content: bytes) -> Iterator[Entity]:
    """The record, then every output."""
    yield _file(RECORD, len(content), hashlib.sha256(content).hexdigest())
    for output in record["outputs"]:
        yield _file(output["name"], output["bytes"], output["sha256"])


def _file(name: str, size: int, sha256: str) -> Entity:
    return {
        "@id": quote(name),
        "@type": "File",
        "name": name,
        "encodingFormat": _FORMATS.get(PurePosixPath(name).suffix, "application/octet-stream"),
        "contentSize": str(size),
        "sha256": sha256,
    }


def _inputs(record: Mapping[str, Any]) -> Iterator[Entity]:
    """What was read; it stays in its repository, so it is no part of the crate."""
    for kind in ("inputs", "configfiles"):
        for number, item in enumerate(record[kind]):
            name = item["name"] if kind == "inputs" else f"{number}-{item['name']}"
            yield {
                "@id": f"#{kind.removesuffix('s')}-{quote(name)}",
                "@type": "CreativeWork",
                "name": item["name"],
                "sha256": item["sha256"],
            }


def _arguments(record: Mapping[str, Any]) -> dict[str, str]:
    """The options of the ``diffrun`` command that does the same."""
    found: dict[str, str] = {}
    words = record["argv"][1:]
    for option, value in zip(words[::2], words[1::2], strict=True):
        name = option.removeprefix("--")
        found[name] = f"{found[name]} {value}" if name in found else value
    return found


def _values(kind: str, values: Mapping[str, str]) -> Iterator[Entity]:
    for name, value in values.items():
        yield {"@id": f"#{kind}-{quote(name)}", "@type": "PropertyValue", "name": name, "value": value}


def _image(container: Mapping[str, Any] | None, runtime: str) -> Iterator[Entity]:
    if container is None:
        return
    name, _, tag = str(container["name"]).partition("@")[0].rpartition(":")
    if not name or "/" in tag:  # no tag: the colon is a registry's port, or there is none
        name, tag = str(container["name"]).partition("@")[0], ""
    first, _, rest = name.partition("/")
    remote = bool(rest) and ("." in first or ":" in first or first == "localhost")
    yield {
        "@id": _IMAGE,
        "@type": "ContainerImage",
        "additionalType": {"@id": _TERMS + ("SIFImage" if runtime == "apptainer" else "DockerImage")},
        "registry": first if remote else "docker.io",
        "name": rest if remote else name,
        "sha256": str(container["id"]).removeprefix("sha256:"),
        **({"tag": tag} if tag else {}),
    }


def _tool(record: Mapping[str, Any]) -> Entity:
    if record["plan"]["program"] == "stack":
        return {
            "@id": _STACK,
            "@type": "SoftwareApplication",
            "name": "imageDifference.py of the LSST stack",
            "url": _STACK,
            "softwareVersion": "12.1",
        }
    container = record["plan"].get("container")
    return {
        "@id": "#engine",
        "@type": "SoftwareApplication",
        "name": "imageDifference.py of diffrun's engine",
        "softwareVersion": str(container["name"] if container else record["diffrun"]),
    }


def _visits(record: Mapping[str, Any]) -> str:
    plan = record["plan"]
    if "images" in plan:
        science, template = (PurePosixPath(plan["images"][side]["image"]) for side in ("science", "template"))
        return f"{science.name} minus {template.name}"
    return f"visit {plan['science'][0]['visit']} minus visit {plan['template'][0]['visit']}"


def _refer(*entities: Entity) -> Any:
    """References; one alone stands for itself, as the format wants it."""
    found = [{"@id": entity["@id"]} for entity in entities]
    return found[0] if len(found) == 1 else found


def _time(text: str) -> str:
    return text.replace("Z", "+00:00")
