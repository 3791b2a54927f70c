# SPDX-License-Identifier: BSD-3-Clause
"""The program on a small repository: products, exit status, and one clear line for every failure."""

from __future__ import annotations

import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smallrepository
from astropy.io import fits

from diffrun.engine import boost, outputrepository, processing, program
from diffrun.engine.config import ImageDifferenceConfig
from diffrun.errors import OutputError
from diffrun.files.afw.catalog import read_catalog
from diffrun.files.afw.reader import read_exposure, read_kernel
from diffrun.repository.gen2 import Repository

RECIPE = str(Path(__file__).parents[2] / "configs" / "diffimconfig.py")
FOLDER = Path("deepDiff/v1-fr/R22")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smallrepository.make(tmp_path_factory.mktemp("small") / "repo")


@pytest.fixture
def repo(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "repo"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the program here; gives status, standard output and standard error."""
    root = logging.getLogger()
    before, level = root.handlers, root.level

    def call(*argv: Any) -> tuple[int, str, str]:
        status = program.main([str(each) for each in argv])
        out, err = capsys.readouterr()
        return status, out, err

    yield call
    root.handlers, root.level = before, level
    logging.captureWarnings(False)


def recipe(
    repo: Path, output: Path, *more: str, science: str = "visit=1", template: str = "visit=2"
) -> list[str]:
    return [
        *(str(repo), "--id", *science.split(), "--templateId", *template.split()),
        *("--output", str(output), "--configfile", RECIPE, *more),
    ]


def failure(err: str) -> str:
    """The one line of a failure; there is no traceback."""
    assert "Traceback" not in err
    (line,) = re.findall(r"^imageDifference FATAL: Failed on dataId=\{[^}]*\}: (.*)$", err, re.MULTILINE)
    return str(line)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def made(original: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output repository of the recipe, and what the program said."""
    output = tmp_path_factory.mktemp("made") / "out"
    command = [sys.executable, "-m", "diffrun.engine", *recipe(original, output)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    return output, ended.stderr


def test_the_recipe(original: Path, made: tuple[Path, str]) -> None:
    output, err = made
    assert files(output) == [
        "config/deepDiff.py",
        *(f"{FOLDER}/{name}-S11.fits" for name in ("diaSrc", "diffexp", "kernel", "matchexp")),
        f"{FOLDER}/metadata-S11.boost",
        "schema/deepDiff_diaSrc.fits",
    ]
    assert (output / "_parent").readlink() == original
    stage = re.compile(r"^imageDifference INFO: (Processing|Subtracting|Running diaSource \w+|Writing)", re.M)
    measured = ["Running diaSource detection", "Running diaSource measurement"]
    assert stage.findall(err) == ["Processing", "Subtracting", *measured, "Writing"]
    assert "WARN: Src product does not exist; running detection, measurement, selection" in err


def test_products_can_be_read_and_agree(made: tuple[Path, str]) -> None:
    output, _ = made
    difference = read_exposure(output / FOLDER / "diffexp-S11.fits")
    matched = read_exposure(output / FOLDER / "matchexp-S11.fits")
    assert (difference.filter, matched.filter, difference.xy0) == ("r", "r", smallrepository.XY0)
    inside = difference.image[40:-40, 40:-40]
    pull = inside / np.sqrt(difference.variance[40:-40, 40:-40])
    assert 0.9 < float(np.std(pull)) < 1.1
    assert float(np.median(matched.image[40:-40, 40:-40])) == pytest.approx(smallrepository.SKY, rel=0.02)
    kernel = read_kernel(output / FOLDER / "kernel-S11.fits")
    facts = boost.read(output / FOLDER / "metadata-S11.boost")
    assert float(kernel.at(1128.0, 2128.0).sum()) == pytest.approx(1.0, abs=0.02)
    assert facts["imageDifference:subtract.spatialKernelSum"] == pytest.approx(1.0, abs=0.02)
    sources = read_catalog(output / FOLDER / "diaSrc-S11.fits")
    schema = read_catalog(output / "schema" / "deepDiff_diaSrc.fits")
    assert len(schema) == 0
    assert schema.fields == sources.fields
    assert dict(schema.aliases) == dict(sources.aliases)


def test_what_is_not_wanted_is_not_written(original: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "out"
    unwanted = ("doWriteMatchedExp=False", "doWriteSources=False", "coaddName=goodSeeing")
    status, _, _ = run(*recipe(original, output, "-c", *unwanted))
    assert status == 0
    assert files(output) == [
        "config/goodSeeingDiff.py",
        "goodSeeingDiff/v1-fr/R22/diffexp-S11.fits",
        "goodSeeingDiff/v1-fr/R22/kernel-S11.fits",
        "goodSeeingDiff/v1-fr/R22/metadata-S11.boost",
        "schema/goodSeeingDiffSrc.fits",
    ]


def test_the_template_has_its_own_filter(original: Path, tmp_path: Path, run: Run) -> None:
    status, _, err = run(*recipe(original, tmp_path / "out", template="visit=3"))
    assert status == 0
    assert "Fetching calexp ({'visit': 3, 'filter': 'g', 'raft': '2,2', 'sensor': '1,1'}) as template." in err
    assert "imageDifference INFO: The science image is in filter r, the template in filter g" in err
    assert read_exposure(tmp_path / "out" / FOLDER / "matchexp-S11.fits").filter == "g"


def started(argv: list[str], cwd: Path, **environment: str) -> None:
    """Run the program in a process of its own, where linear algebra has one thread."""
    command = [sys.executable, "-m", "diffrun.engine", *argv]
    ended = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_same_bytes_whatever_surrounds_it(original: Path, made: tuple[Path, str], tmp_path: Path) -> None:
    output, _ = made
    several = recipe(original, tmp_path / "b", "-j", "2", "-L", "warn", science="visit=1^3")
    started(several, tmp_path, TZ="Asia/Tokyo", PYTHONHASHSEED="7", OPENBLAS_NUM_THREADS="2", LC_ALL="C")
    assert (tmp_path / "b" / "deepDiff" / "v3-fg" / "R22" / "diffexp-S11.fits").is_file()
    for name in files(output):
        assert (output / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_same_bytes_with_one_thread(original: Path, made: tuple[Path, str], tmp_path: Path) -> None:
    """FFTs and compiled loops take as many threads as there are processors to run on."""
    pinned = "import os, runpy, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    command = [sys.executable, "-c", pinned + "runpy.run_module('diffrun.engine', run_name='__main__')"]
    ended = subprocess.run([*command, *recipe(original, tmp_path / "one")], check=False)
    assert ended.returncode == 0
    for name in files(made[0]):
        assert (made[0] / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


def test_a_second_run_must_agree(original: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "out"
    assert run(*recipe(original, output, template="visit=8"))[0] == 1
    first = (output / "config" / "deepDiff.py").read_bytes()
    status, _, err = run(*recipe(original, output, "-c", "convolveTemplate=False"))
    assert status == 1
    assert "Comparing configuration: Inequality in config.convolveTemplate: True != False" in err
    last = err.splitlines()[-1]
    assert last.startswith(
        "imageDifference FATAL: Failed in task initialization: Config does not match existing"
    )
    assert "config.convolveTemplate: True is stored, False is asked for" in last
    assert last.endswith("give another --output, or the stored settings, or --clobber-config to replace them")
    assert (output / "config" / "deepDiff.py").read_bytes() == first


def test_stored_files_are_backed_up(original: Path, tmp_path: Path) -> None:
    repository, output = Repository.open(original), tmp_path / "out"
    stored = output / "config" / "deepDiff.py"

    def prepare(grow: int, clobber: bool = True, backup: bool = True, schema: bytes = b"schema") -> str:
        config = ImageDifferenceConfig()
        config.growFootprint = grow
        outputrepository.prepare(repository, output, config, schema, clobber, backup)
        return stored.read_text()

    texts = [prepare(grow) for grow in (1, 2, 3)]
    assert stored.with_name("deepDiff.py~1").read_text() == texts[1]
    assert stored.with_name("deepDiff.py~2").read_text() == texts[0]
    prepare(4, backup=False)
    assert not stored.with_name("deepDiff.py~3").exists()
    prepare(4, clobber=False)
    with pytest.raises(OutputError, match=r"config\.growFootprint: 4 is stored, 5 is asked for"):
        prepare(5, clobber=False)
    with pytest.raises(OutputError, match="New schema does not match schema 'deepDiff_diaSrc' on disk"):
        prepare(4, clobber=False, schema=b"other")
    stored.write_text("import os\n")
    with pytest.raises(OutputError, match=r"Unable to read stored .*deepDiff\.py:1.*--clobber-config"):
        prepare(4, clobber=False)


def test_stored_files_of_the_input_count_too(repo: Path, tmp_path: Path) -> None:
    (repo / "config").mkdir()
    (repo / "config" / "deepDiff.py").write_text("config.growFootprint = 7\n")
    arguments = (Repository.open(repo), tmp_path / "out", ImageDifferenceConfig(), b"schema")
    with pytest.raises(OutputError, match="growFootprint: 7 is stored"):
        outputrepository.prepare(*arguments, clobber=False, backup=True)
    outputrepository.prepare(*arguments, clobber=True, backup=True)
    assert (tmp_path / "out/config/deepDiff.py~1").read_text() == "config.growFootprint = 7\n"
    assert (repo / "config" / "deepDiff.py").read_text() == "config.growFootprint = 7\n"


def test_clobber_output(original: Path, tmp_path: Path, run: Run) -> None:
    output, precious = tmp_path / "out", tmp_path / "precious"
    run(*recipe(original, output, template="visit=8"))
    (output / "leftover").write_text("")
    _, _, err = run(*recipe(original, output, "--clobber-output", "-c", "doMerge=False", template="visit=8"))
    assert "Removing output repo" in err
    assert not (output / "leftover").exists()
    precious.mkdir()
    (precious / "thesis").write_text("")
    status, _, err = run(*recipe(original, precious, "--clobber-output"))
    assert status == 1
    assert "is not an output repository" in err
    assert (precious / "thesis").exists()
    status, _, err = run(*recipe(original, original.parent, "--clobber-output"))
    assert status == 1
    assert "holds the input repository" in err


def test_show(original: Path, run: Run) -> None:
    shown = ("--show", "config=*radii", "tasks", "data")
    status, out, _ = run(original, "--id", "--templateId", "visit=2", *shown)
    assert status == 0
    assert "config.measurement.plugins['base_CircularApertureFlux'].radii=[3.0, 4.5" in out
    assert "getTemplate: lsst.ip.diffim.getTemplate.GetCoaddAsTemplateTask" in out
    ids = [line for line in out.splitlines() if "dataRef" in line]
    assert len(ids) == 4
    assert (
        ids[-1] == "templateId dataRef.dataId = {'visit': 2, 'filter': 'r', 'raft': '2,2', 'sensor': '1,1'}"
    )


def test_status_is_the_number_of_failures(repo: Path, tmp_path: Path, run: Run) -> None:
    for visit in ("v1-fr", "v3-fg"):
        path = repo / "calexp" / visit / "R22" / "S11.fits"
        path.write_bytes(path.read_bytes()[:100_000])
    status, _, err = run(*recipe(repo, tmp_path / "out", science="visit=1^2^3^4"))
    assert status == 3
    assert err.count("FATAL: Failed on dataId") == 2
    assert "WARN: No data found for dataId={'visit': 4}: no visit 4 in" in err
    assert [name for name in files(tmp_path / "out") if "v1-fr" in name or "v3-fg" in name] == []
    assert (tmp_path / "out" / "deepDiff" / "v2-fr" / "R22" / "diffexp-S11.fits").is_file()


def test_gaps_of_a_range_are_no_failures(original: Path, tmp_path: Path, run: Run) -> None:
    status, _, err = run(*recipe(original, tmp_path / "out", science="visit=0..1", template="visit=8"))
    assert status == 1
    assert "No data found for dataId={'visit': 0}" in err
    assert "Failed on dataId={'visit': 1" in err


@pytest.mark.parametrize(
    ("science", "message"),
    [
        ("visit=7", r"no visit 7 in .*; the nearest of its 3 visits: 1 \(r\), 2 \(r\), 3 \(g\)"),
        ("visit=1 raft=2,3 sensor=1,1", "visit 1 has no raft '2,3' sensor '1,1'; it has R22 S11"),
        ("visit=1 filter=g", "visit 1 has no filter 'g'; it has r"),
        ("visit=9 filter=r raft=2,2 sensor=1,1", "no visit 9 in"),
        ("visit=1 filter=r raft=2,2 sensor=1,2", "visit 1 has no raft '2,2' sensor '1,2'; it has R22 S11"),
    ],
)
def test_what_is_not_there(original: Path, tmp_path: Path, run: Run, science: str, message: str) -> None:
    status, _, err = run(*recipe(original, tmp_path / "out", science=science))
    assert status == 1
    assert re.search(f"WARN: No data found for dataId=.*: {message}", err)
    assert "Not running the task because there is no data to process" in err
    assert not (tmp_path / "out").exists()


def test_missing_template(original: Path, tmp_path: Path, run: Run) -> None:
    status, _, err = run(*recipe(original, tmp_path / "out", template="visit=8"))
    assert status == 1
    assert failure(err).startswith("no visit 8 in")
    status, _, err = run(original, "--id", "visit=1", "--output", tmp_path / "out", "-C", RECIPE)
    assert status == 2
    assert err.splitlines()[-1].startswith("imageDifference.py: error: No template supplied! Please supply a")
    status, _, err = run(*recipe(original, tmp_path / "other", template="filter=r"))
    assert status == 2
    assert "names no visit" in err


def damage_truncate(repo: Path) -> None:
    path = repo / "calexp/v1-fr/R22/S11.fits"
    path.write_bytes(path.read_bytes()[:-5000])


def damage_bit(repo: Path) -> None:
    path = repo / "calexp/v2-fr/R22/S11.fits"
    data = bytearray(path.read_bytes())
    data[200_000] ^= 1
    path.write_bytes(data)


def damage_nan(repo: Path) -> None:
    path = repo / "calexp/v1-fr/R22/S11.fits"
    with fits.open(path) as hdus:
        for hdu in hdus:
            hdu.header.pop("CHECKSUM", None)
            hdu.header.pop("DATASUM", None)
        hdus[1].data[:] = np.nan
        hdus.writeto(path, overwrite=True)


def damage_background(repo: Path) -> None:
    (repo / "calexp/v2-fr/R22/bkgd-S11.fits").unlink()


def damage_registry(repo: Path) -> None:
    (repo / "calexp/v2-fr/R22/S11.fits").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_truncate, r"v1-fr/R22/S11\.fits"),
        (damage_bit, r"v2-fr/R22/S11\.fits"),
        (damage_nan, "science"),
        (damage_background, r"no calexpBackground of .*v2-fr/R22/bkgd-S11\.fits"),
        (damage_registry, r"no calexp of .*v2-fr/R22/S11\.fits"),
    ],
)
def test_bad_data_is_one_line_and_nothing_written(
    repo: Path, tmp_path: Path, run: Run, damage: Callable[[Path], None], message: str
) -> None:
    damage(repo)
    status, _, err = run(*recipe(repo, tmp_path / "out"))
    assert status == 1
    assert re.search(message, failure(err))
    assert "fault of diffrun" not in err
    assert files(tmp_path / "out") == ["config/deepDiff.py", "schema/deepDiff_diaSrc.fits"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-c", "doMerg=True"], "-c: no config field: doMerg; did you mean doMerge (now True)?"),
        (["-c", "doPreConvolve=True"], "config.doPreConvolve=True (-c) is not implemented by the engine"),
        (["-C", "bad.py"], "bad.py:2: 'config.doMerge = open(\"x\")' is code"),
        (["-C", "missing.py"], "cannot load config file 'missing.py': no such file"),
        (["-c", "subtract.kernel.name=DF"], "config.subtract.kernel.name='DF' (-c) is not implemented"),
    ],
)
def test_bad_settings(
    original: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, more: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text('\nconfig.doMerge = open("x")\n')
    status, _, err = run(*recipe(original, tmp_path / "out", *more))
    assert status == 2
    assert err.splitlines()[-1].startswith(f"imageDifference.py: error: {message}")
    assert not (tmp_path / "out").exists()


def test_the_coadd_template_is_refused(original: Path, tmp_path: Path, run: Run) -> None:
    argv = recipe(original, tmp_path / "out")
    argv = argv[: argv.index("--configfile")]
    status, _, err = run(*argv)
    assert status == 2
    assert "the engine takes templates from calexps only; give --configfile diffimconfig.py" in err
    assert not (tmp_path / "out").exists()


def test_no_output_and_no_repository(original: Path, tmp_path: Path, run: Run) -> None:
    status, _, err = run(original, "--id", "visit=1", "--templateId", "visit=2", "-C", RECIPE)
    assert status == 2
    assert "no output directory specified; give --output or --rerun" in err
    assert run(tmp_path / "gone", "--id", "visit=1")[0] == 2
    (tmp_path / "empty").mkdir()
    status, _, err = run(*recipe(tmp_path / "empty", tmp_path / "out"))
    assert status == 1
    assert "imageDifference FATAL: Failed in task initialization: no _mapper in" in err


def test_an_output_that_cannot_be_written(original: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run(*recipe(original, tmp_path / "file" / "out"))
    assert status == 1
    assert "FATAL: Failed in task initialization: cannot make the output repository" in err
    assert "Traceback" not in err


def test_a_full_disk_leaves_nothing_of_the_data_id(original: Path, tmp_path: Path, run: Run) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        status, _, err = run(*recipe(original, tmp_path / "out", "-c", "doWriteMatchedExp=False"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert status == 1
    assert failure(err).startswith("no room to write")
    assert files(tmp_path / "out") == ["config/deepDiff.py", "schema/deepDiff_diaSrc.fits"]


def test_unexpected_exceptions_are_one_line_unless_asked_for(
    original: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr(processing, "run", broken)
    status, _, err = run(*recipe(original, tmp_path / "out"))
    assert status == 1
    assert failure(err) == r"ZeroDivisionError: by\nnothing; this is a fault of diffrun: please report it"
    status, _, err = run(*recipe(original, tmp_path / "out", "-L", "debug"))
    assert status == 1
    assert "Traceback" in err
    with pytest.raises(ZeroDivisionError):
        run(*recipe(original, tmp_path / "out", "--doraise"))


def test_what_is_not_done_in_time_has_failed(original: Path, tmp_path: Path, run: Run) -> None:
    status, _, err = run(*recipe(original, tmp_path / "out", "-j", "2", "-t", "0.01", science="visit=1^2^3"))
    assert status == 3
    assert err.count("not done within --timeout") == 3


def test_an_interrupted_program_leaves_no_process(original: Path, tmp_path: Path) -> None:
    argv = recipe(original, tmp_path / "out", "-j", "2", science="visit=1^2^3")
    with subprocess.Popen([sys.executable, "-m", "diffrun.engine", *argv], stderr=subprocess.PIPE) as parent:
        assert parent.stderr is not None
        while b"Processing" not in parent.stderr.readline():
            pass
        found = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        parent.terminate()
        assert parent.wait(20) == 128 + signal.SIGTERM
    assert found
    assert [pid for pid in found if b"diffrun.engine" in command_of(pid)] == []


def command_of(pid: str) -> bytes:
    """The command line of a process, empty when it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_profile(original: Path, tmp_path: Path, run: Run) -> None:
    _, _, err = run(
        *recipe(original, tmp_path / "out", "--profile", str(tmp_path / "stats"), template="visit=8")
    )
    assert "cProfile stats written to" in err
    assert (tmp_path / "stats").stat().st_size > 1000
