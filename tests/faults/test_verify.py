# SPDX-License-Identifier: BSD-3-Clause
"""``diffrun verify``: whatever is changed in a run folder, its record or its inputs is noticed and named."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conftest import Launcher, make_repository
from diffrun import record
from diffrun.errors import DiffrunError, RepositoryError, VerificationError
from diffrun.integrity import Report, examine
from diffrun.rerun import planned

DIFFERENCE = "deepDiff/v230-fr/R22/diffexp-S11.fits"
FLIPS = 200


@dataclass(frozen=True)
class Finished:
    """A finished run, its repository and its configuration file."""

    launcher: Launcher
    folder: Path
    configfile: Path

    @property
    def calexp(self) -> Path:
        return self.launcher.repo / "calexp/v230-fr/R22/S11.fits"

    def verify(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "diffrun.cli", "verify", str(self.folder), *words],
            env=self.launcher.environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip


@pytest.fixture(scope="module")
def made(standin_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One finished run, with a copy of its repository and configuration file beside it."""
    place = tmp_path_factory.mktemp("made")
    launcher = Launcher(standin_source, make_repository(place / "there/repo"), place)
    configfile = place / "there/mine.py"
    configfile.write_bytes("config.doMerge=True  # Größe\r\n".encode("latin-1"))
    done = launcher.run("--output", str(place / "run"), "--configfile", str(configfile), "-q")
    assert done.returncode == 0, done.stderr
    shutil.copytree(place / "there", place / "kept")
    return Finished(launcher, place / "run", configfile)


@pytest.fixture
def run(made: Finished, tmp_path: Path) -> Iterator[Finished]:
    """A copy of the finished run to be spoilt; its inputs are put back afterwards."""
    shutil.copytree(made.folder, tmp_path / "run", symlinks=True)
    assert examine(tmp_path / "run").findings == ()
    yield replace(made, folder=tmp_path / "run")
    there = made.configfile.parent
    shutil.rmtree(there)
    shutil.copytree(there.with_name("kept"), there)


def flip(path: Path, chance: random.Random) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def told(folder: Path) -> str:
    """What the examination says, by a finding or by a refusal."""
    try:
        return "\n".join(str(found) for found in examine(folder).findings)
    except VerificationError as error:
        return str(error)


def test_a_flipped_bit_anywhere_is_named(run: Finished) -> None:
    """200 bits, one after the other, in products, record, crate, log, inputs and configuration."""
    chance = random.Random(20161125)
    there = [path for path in sorted(run.folder.rglob("*")) if path.is_file() and path.stat().st_size]
    files = [path for path in there if not path.is_relative_to(run.folder / "_parent")]
    assert {path.name for path in files} >= {"record.json", "ro-crate-metadata.json", "log.txt"}
    targets = [*files, run.calexp, run.configfile]
    for number in range(FLIPS):
        path = targets[number % len(targets)]
        before = path.read_bytes()
        flip(path, chance)
        name = str(path.relative_to(run.folder)) if path.is_relative_to(run.folder) else str(path)
        lines = told(run.folder).splitlines()
        assert len(lines) == 1, (number, lines)
        assert name in lines[0], (number, lines)
        path.write_bytes(before)
    assert examine(run.folder).findings == ()


def _link_to_a_copy(run: Finished) -> str:
    shutil.copy(run.folder / DIFFERENCE, run.folder.parent / "copy.fits")
    (run.folder / DIFFERENCE).unlink()
    (run.folder / DIFFERENCE).symlink_to(run.folder.parent / "copy.fits")
    return f"{DIFFERENCE}: a link"


def _linked_folder(run: Finished) -> str:
    (run.folder / "config").rename(run.folder.parent / "elsewhere")
    (run.folder / "config").symlink_to(run.folder.parent / "elsewhere")
    return "config: unexpected: a link"


def _pipe(run: Finished) -> str:
    (run.folder / DIFFERENCE).unlink()
    os.mkfifo(run.folder / DIFFERENCE)
    return f"{DIFFERENCE}: not a plain file"


def _pipe_as_input(run: Finished) -> str:
    run.calexp.unlink()
    os.mkfifo(run.calexp)
    return f"{run.calexp}: input not a plain file"


def _folder(run: Finished) -> str:
    (run.folder / DIFFERENCE).unlink()
    (run.folder / DIFFERENCE).mkdir()
    return f"{DIFFERENCE}: a folder"


def _added(run: Finished) -> str:
    (run.folder / "config/extra.py").write_text("")
    return "config/extra.py: unexpected: a file"


def _added_folder(run: Finished) -> str:
    (run.folder / "empty").mkdir()
    return "empty: unexpected: a folder"


def _missing(run: Finished) -> str:
    (run.folder / DIFFERENCE).unlink()
    return f"{DIFFERENCE}: missing"


def _cut(run: Finished) -> str:
    os.truncate(run.folder / DIFFERENCE, 100)
    return f"{DIFFERENCE}: changed: 100 bytes, not 2880"


def _set_id(run: Finished) -> str:
    (run.folder / DIFFERENCE).chmod(0o4755)
    return f"{DIFFERENCE}: a file with a set-id bit"


def _no_crate(run: Finished) -> str:
    (run.folder / "ro-crate-metadata.json").unlink()
    return "ro-crate-metadata.json: missing"


def _other_parent(run: Finished) -> str:
    (run.folder / "_parent").unlink()
    (run.folder / "_parent").symlink_to("/")
    return "_parent: changed: it leads to /"


def _linked_record(run: Finished) -> str:
    (run.folder / "record.json").rename(run.folder.parent / "record.json")
    (run.folder / "record.json").symlink_to(run.folder.parent / "record.json")
    return "record.json is a link"


def _respaced_record(run: Finished) -> str:
    content = (run.folder / "record.json").read_text()
    (run.folder / "record.json").write_text(json.dumps(json.loads(content), indent=3) + "\n")
    return "record.json: changed: its seal does not hold"


WAYS: tuple[Callable[[Finished], str], ...] = (
    _link_to_a_copy, _linked_folder, _pipe, _pipe_as_input, _folder, _added, _added_folder, _missing, _cut,
    _set_id, _no_crate, _linked_record, _respaced_record,
)  # fmt: skip


@pytest.mark.parametrize("spoil", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_what_is_done_to_a_folder_is_named(run: Finished, spoil: Callable[[Finished], str]) -> None:
    assert spoil(run) in told(run.folder)


def test_a_parent_that_leads_elsewhere(run: Finished) -> None:
    """The stand-in makes no ``_parent``; a program that does has it in the record."""
    made = json.loads((run.folder / "record.json").read_bytes())
    assert made.pop("seal").startswith("sha256:")
    (run.folder / "_parent").symlink_to(run.launcher.repo)
    assert "_parent: unexpected" in told(run.folder)
    record.write(run.folder, {**made, "links": {"_parent": str(run.launcher.repo)}})
    assert "_parent" not in told(run.folder)
    assert _other_parent(run) in told(run.folder)


@pytest.mark.parametrize(
    ("words", "code", "errors"), [((), 0, 0), (("--json",), 0, 0), (("-q",), 0, 0), (("-q", "-v"), 2, 1)]
)
def test_the_command_on_a_whole_folder(run: Finished, words: tuple[str, ...], code: int, errors: int) -> None:
    done = run.verify(*words)
    assert done.returncode == code, done.stderr
    assert "diffrun: error" in done.stderr if errors else "error" not in done.stderr
    if words == ("--json",):
        answer = json.loads(done.stdout)
        assert (answer["findings"], answer["rerun"]) == ([], None)
    elif not words:
        assert "8 outputs as they were" in done.stdout
        assert "4 as they were" in done.stdout


def test_the_command_on_a_spoilt_folder(run: Finished) -> None:
    expected = _cut(run)
    done = run.verify()
    assert done.returncode == VerificationError.exit_code == 6
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr
    assert expected in done.stdout
    (run.folder / "record.json").unlink()
    done = run.verify()
    assert (done.returncode, done.stdout) == (RepositoryError.exit_code, "")
    assert "is not a run folder" in done.stderr


def test_inputs_that_are_gone_are_not_held_against_the_folder(run: Finished) -> None:
    shutil.rmtree(run.launcher.repo)
    run.configfile.unlink()
    report = examine(run.folder)
    assert report.findings == ()
    assert report.notes == ("3 inputs not here any more, not checked",)


def test_the_record_alone_makes_it_again(run: Finished) -> None:
    """Products and configuration file deleted: the record still gives the same bytes."""
    shutil.rmtree(run.folder / "deepDiff")
    run.configfile.unlink()
    done = run.verify("--rerun", "--json")
    answer = json.loads(done.stdout)
    assert answer["rerun"] == {"products": 7, "differences": [], "causes": []}
    assert {found["what"] for found in answer["findings"]} == {"missing"}
    assert done.returncode == 6
    assert not (run.folder / "deepDiff").exists()


def test_a_program_that_does_not_repeat_itself(run: Finished, tmp_path: Path) -> None:
    words = ("--output", str(tmp_path / "moody"), "--config", "standin=moody", "-q")
    assert run.launcher.run(*words).returncode == 0
    moody = Finished(run.launcher, tmp_path / "moody", run.configfile)
    assert moody.verify().returncode == 0
    done = moody.verify("--rerun")
    assert done.returncode == 6
    assert "made again, 1 of 7 products differ; likely cause: not in the records" in done.stderr
    assert "metadata-S11.boost: other bytes" in done.stdout


def test_what_cannot_be_made_again_is_refused(run: Finished) -> None:
    run.calexp.write_bytes(b"other pixels, same run")
    done = run.verify("--rerun", "-q")
    assert done.returncode == 6
    assert "cannot be made again: inputs: calexp/v230-fr/R22/S11.fits was " in done.stderr
    run.calexp.unlink()
    assert run.verify("--rerun", "-q").returncode == RepositoryError.exit_code
    _respaced_record(run)
    assert "record.json has changed: it cannot be made again" in run.verify("--rerun", "-q").stderr


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("science", [{"visit": "230; touch owned", "filter": "r", "raft": "2,2", "sensor": "1,1"}]),
        ("science", [{"visit": 230, "filter": "../../r", "raft": "2,2", "sensor": "1,1"}]),
        ("config", ["--output=/etc"]),
        ("repository", "/proc/self/root/nowhere"),
        ("program", "/bin/sh"),
        ("runtime", "../native"),
        ("site", "/etc/passwd"),
        ("jobs", "1 --config x=y"),
    ],
)
def test_a_hostile_record_is_read_like_a_command_line(
    run: Finished, tmp_path: Path, part: str, value: object
) -> None:
    """A seal is no signature: whoever writes a record can seal it."""
    made = examine(run.folder).record
    hostile = {**made, "plan": {**made["plan"], part: value}}
    with pytest.raises(DiffrunError):
        planned(hostile, tmp_path / "private")


@pytest.mark.parametrize("name", ["../run2/x", "/etc/passwd", "a/../../x"])
def test_a_record_that_names_files_outside_its_folder(run: Finished, name: str) -> None:
    made = json.loads((run.folder / "record.json").read_bytes())
    made["outputs"][0]["name"] = name
    made.pop("seal")
    record.write(run.folder, made)
    assert "outside its folder" in told(run.folder) or "record.json" in told(run.folder)


def test_the_first_schema_is_still_read(run: Finished, tmp_path: Path) -> None:
    """What a record of schema 1 lacks is not asked of it; the run can be made again from it."""
    made = examine(run.folder).record
    old = {"schema": "diffrun.record/1", **{key: value for key, value in made.items() if key in FIRST}}
    (run.folder / "record.json").write_text(json.dumps({**old, "schema": "diffrun.record/1"}, indent=2))
    (run.folder / "ro-crate-metadata.json").unlink()
    report = examine(run.folder)
    assert report.findings == ()
    assert "has no seal" in report.notes[0]
    identity = planned(report.record, tmp_path / "private")[0].identity()
    identity.pop("versions")  # the stand-in's source made it, ours is asked
    assert identity == {key: made["plan"][key] for key in identity}


#: The keys of schema 1, as a run of that release wrote them.
FIRST = set(json.loads((Path(__file__).parents[1] / "standards/record-1.json").read_bytes()))


def test_a_record_that_the_first_release_wrote(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "standards/record-1.json", tmp_path / "record.json")
    report: Report = examine(tmp_path)
    assert report.record["plan"]["digest"].startswith("sha256:02c8ec30")
    assert {found.what for found in report.findings} == {"missing"}
    assert len(report.findings) == 10
    with pytest.raises(DiffrunError, match="/data/twinkles is not a folder"):
        planned({**report.record, "plan": {**report.record["plan"], "own_subset": False}}, tmp_path / "p")


def test_the_recorded_commands_are_the_same_run(run: Finished, made: Finished) -> None:
    """``argv`` from any folder, and datalad's command from the folder above: both find it finished."""
    told = examine(made.folder).record
    assert told["argv"][0] == "diffrun"
    datalad = told["datalad_run"]
    words = shlex.split(datalad["cmd"].format())
    assert words[words.index("--output") + 1] == datalad["outputs"][0] == "run"
    assert all((made.folder.parent / name).is_file() for name in datalad["inputs"])
    for argv, where in ((told["argv"], Path("/")), (words, made.folder.parent)):
        assert not Path(argv[0]).is_absolute()
        done = subprocess.run(
            [sys.executable, "-m", "diffrun.cli", *argv[1:]],
            env=run.launcher.environment(), cwd=where, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "finished before" in done.stdout
