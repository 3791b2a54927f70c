# SPDX-License-Identifier: BSD-3-Clause
"""10,000 random plans for Apptainer and for Shifter: never an option or a mount that opens the host."""

from __future__ import annotations

import csv
import random
import re
from pathlib import Path

from hostimage import IDENTITY
from test_mounts import is_harmless, random_job

from diffrun.errors import UsageError
from diffrun.runtimes import apptainer, shifter
from diffrun.runtimes.image import ENTRY, Image

SIF = Path("/images/engine.sif")
SHUT = [
    "--containall",
    "--cleanenv",
    "--no-home",
    "--no-privs",
    "--net",
    "--network",
    "none",
    "--pwd",
    "/tmp",
]
VOLUME = re.compile(r"--volume=(/[A-Za-z0-9_.+/-]*):(/input:ro|/output)")


def test_apptainer() -> None:
    dice, allowed = random.Random(20161129), 0
    for _ in range(10_000):
        try:
            argv = list(apptainer.words(random_job(dice), SIF))
        except UsageError:
            continue
        allowed += 1
        given, program = argv[: argv.index(str(SIF))], argv[argv.index(str(SIF)) + 1 :]
        assert given[: len(SHUT) + 4] == ["--quiet", "exec", *SHUT, "--env", "DIFFRUN_LIFELINE=1"]
        mounts = given[len(SHUT) + 4 :]
        assert set(mounts[::2]) <= {"--mount"}
        for value in mounts[1::2]:
            kind, source, target, *readonly = next(csv.reader([value], strict=True))
            assert kind == "type=bind"
            assert is_harmless(source.removeprefix("source="))
            assert readonly == ["readonly"] or (target == "target=/output" and not readonly)
        assert program[:2] == [ENTRY, "imageDifference.py"]
    assert allowed > 2000


def test_shifter() -> None:
    dice, allowed = random.Random(20161130), 0
    layout = shifter.Layout("docker", "/input", "/output", (("DIFFRUN_LIFELINE", "1"),))
    for _ in range(10_000):
        try:
            argv = list(shifter.words(random_job(dice), Image("a", f"sha256:{IDENTITY}"), layout))
        except UsageError:
            continue
        allowed += 1
        end = argv.index("--")
        assert argv[0] == f"--image=id:{IDENTITY}"
        volumes = [VOLUME.fullmatch(word) for word in argv[1:end]]
        assert all(volume and is_harmless(volume[1]) for volume in volumes)
        assert [volume[2] for volume in volumes if volume] in (["/output"], ["/input:ro", "/output"])
        assert argv[end + 1 : end + 5] == [
            "/usr/bin/env",
            "DIFFRUN_LIFELINE=1",
            ENTRY,
            "imageDifference.py",
        ]
    assert allowed > 500
