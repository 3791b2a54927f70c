# SPDX-License-Identifier: BSD-3-Clause
"""The small parts of the launcher: what is shown, what is heard, what is claimed, what is run."""

from __future__ import annotations

import io
import os
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffrun import advice, closing
from diffrun.answers import asked
from diffrun.claim import claimed, occupied
from diffrun.display import Screen, clean, counted, duration
from diffrun.enginelog import Listener
from diffrun.errors import DataError, DiffrunError, OutputError
from diffrun.runtimes import Command, Job
from diffrun.runtimes.native import Native
from diffrun.runtimes.supervise import ask, follow


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert clean(shown) == shown


def test_clean_shows_what_it_hides() -> None:
    assert clean("a\x1b[31mb\u202ec\nd\udce9") == "a\\x1b[31mb\\u202ec\\nd\\udce9"
    assert clean("naïve ☃") == "naïve ☃"
    assert len(clean("x" * 10_000)) < 2100


def test_counts_and_durations() -> None:
    assert [counted(1, "star"), counted(2, "star")] == ["1 star", "2 stars"]
    assert [duration(0.04), duration(59.94), duration(59.99), duration(125)] == [
        "0.0 s", "59.9 s", "1 min 00 s", "2 min 05 s",
    ]  # fmt: skip


def listen(*lines: str) -> Listener:
    ticks = iter(range(1000))
    screen = Screen(out=io.StringIO())
    with screen.progress() as progress:
        listener = Listener(screen, progress, io.StringIO(), clock=lambda: float(next(ticks)))
        listener.begin()
        for line in lines:
            listener.hear(line)
        listener.end()
    return listener


def test_stages_warnings_and_failures_are_heard() -> None:
    heard = listen(
        "imageDifference INFO: Processing {'visit': 230}",
        "imageDifference.subtract WARN: few stars",
        "imageDifference INFO: Subtracting images",
        "imageDifference INFO: Running diaSource detection",
        "no log line at all",
    )
    assert heard.seconds == {
        "start the engine": 1.0,
        "read and warp": 1.0,
        "match and subtract": 1.0,
        "detect": 1.0,
    }
    assert heard.warnings == ["few stars"]
    assert (heard.failure, heard.cause) == ("", "no log line at all")


@pytest.mark.parametrize(
    ("line", "cause", "usage"),
    [
        ("imageDifference FATAL: Failed on dataId={'visit': 2, 'filter': 'r'}: no stars", "no stars", False),
        ("imageDifference FATAL: Failed in task initialization: no _mapper", "no _mapper", False),
        ("imageDifference.py: error: unrecognized arguments: --x", "unrecognized arguments: --x", True),
        ("Segmentation fault", "Segmentation fault", False),
    ],
)
def test_the_cause_of_a_failure(line: str, cause: str, usage: bool) -> None:
    heard = listen("imageDifference INFO: Processing x", line)
    assert (heard.cause, heard.usage) == (cause, usage)


SURVEY = {
    "science": {"visit": 230, "filter": "r", "raft": "2,2", "sensor": "1,1", "fwhm_arcsec": 0.712},
    "better": [
        {"visit": 195529, "filter": "r", "fwhm_arcsec": 0.58, "overlap_fraction": 0.934},
        {"visit": 185595, "filter": "r", "fwhm_arcsec": 0.66, "overlap_fraction": 0.9},
    ],
    "warnings": ["the bands differ: science r, template g"],
}


def test_advice_names_better_templates() -> None:
    assert advice.describe(SURVEY["science"]) == "visit 230, r band, R22 S11, seeing 0.71 arcsec"  # type: ignore[arg-type]
    assert [line.text for line in advice.lines(SURVEY)] == [
        "the bands differ: science r, template g",
        "better templates here: 195529 (r, 0.58 arcsec, overlap 93 %), 185595 (r, 0.66 arcsec, overlap 90 %)",
    ]


@pytest.mark.parametrize("text", ["", "[1]", "null", "{", "[" * 100_000])
def test_a_survey_that_is_no_object(text: str) -> None:
    with pytest.raises(DiffrunError, match="no JSON object"):
        advice.parse(text)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_a_strange_survey_does_no_harm(value: object) -> None:
    for key in ("better", "checks", "warnings"):
        assert isinstance(advice.lines({key: value}), list)


def test_a_sentence_is_folded_between_words_on_a_terminal() -> None:
    sentence = "the science image will be convolved to the PSF of the template, since it is the sharper"
    reader, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 60))
    with os.fdopen(terminal, "w") as out:
        Screen(out=out).remark("note", sentence)
        written = b""
        while b"sharper" not in written:  # the kernel may hand it over line by line
            written += os.read(reader, 4000)
    os.close(reader)
    told = written.decode().splitlines()
    assert [line[:11] for line in told] == ["note       ", " " * 11] and max(map(len, told)) <= 60
    assert " ".join(line[11:] for line in told) == sentence


def test_a_sentence_stays_one_line_where_there_is_no_terminal() -> None:
    screen = Screen(out=io.StringIO())
    screen.remark("note", "word " * 60)
    assert len(screen.out.getvalue().splitlines()) == 1  # type: ignore[attr-defined]


def test_a_closing_summary_of_nothing() -> None:
    screen = Screen(out=io.StringIO())
    closing.show(screen, Path("/x"), {"outputs": [], "summaries": {"R22 S11": {}}, "seconds": {}})
    assert "not measured" in screen.out.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("advised", "told"),
    [("template", "sum"), ("science", "template convolved, sum"), (None, "template convolved, sum")],
)
def test_what_was_convolved_is_told_again_only_if_it_is_news(advised: str | None, told: str) -> None:
    screen = Screen(out=io.StringIO())
    summary = {"convolved": "template", "kernel": {"sum": 0.97729}}
    record = {
        "outputs": [],
        "summaries": {"R22 S11": summary},
        "survey": {"convolved": advised},
        "seconds": {},
    }
    closing.show(screen, Path("/x"), record)
    assert f"kernel     {told} 0.9773\n" in screen.out.getvalue()  # type: ignore[attr-defined]


def test_a_claim_gives_a_private_folder_and_leaves_nothing(tmp_path: Path) -> None:
    final = tmp_path / "deep/out"
    with claimed(final, lambda: None) as workshop:
        assert workshop is not None
        assert workshop.stat().st_mode & 0o777 == 0o700
        (workshop / "x").write_text("")
        workshop.rename(final)
    assert sorted(path.name for path in final.parent.iterdir()) == ["out"]
    assert occupied(final)
    with claimed(final, lambda: None) as workshop:
        assert workshop is None


def test_what_a_dead_run_left_is_removed_and_a_live_one_waited_for(tmp_path: Path) -> None:
    final = tmp_path / "out"
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp/half").write_text("written")
    (tmp_path / ".out.lock").write_text("")
    waited = threading.Event()
    order: list[str] = []

    def second() -> None:
        with claimed(final, waited.set) as workshop:
            order.append("second" if workshop is None else "second makes it anew")

    with claimed(final, lambda: None) as workshop:
        assert workshop is not None
        assert list(workshop.iterdir()) == []
        other = threading.Thread(target=second)
        other.start()
        assert waited.wait(10)
        (workshop / "x").write_text("")
        order.append("first")
        workshop.rename(final)
    other.join(10)
    assert order == ["first", "second"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_link_in_the_place_of_the_private_folder(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("")
    (tmp_path / ".out.tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="is in the way"), claimed(tmp_path / "out", lambda: None):
        pass
    assert (tmp_path / "precious/file").exists()


def test_the_native_command_carries_named_variables_only() -> None:
    host = {
        "HOME": "/h",
        "PYTHONPATH": "/evil",
        "PYTHONHOME": "/evil",
        "LD_PRELOAD": "/none.so",
        "OMP_NUM_THREADS": "9",
    }
    command = Native().command(Job("diffrun.engine", ("a b", "--id", "visit=230")), host)
    names = dict(command.environment)
    assert set(names) <= {"HOME", "LC_ALL", "PATH", "TZ", "PYTHONPATH"}
    assert "/evil" not in " ".join(names.values())
    assert command.argv[0] == sys.executable
    assert command.argv[-5:] == ("-m", "diffrun.engine", "a b", "--id", "visit=230")
    assert "'a b'" in str(command)


def python(code: str) -> Command:
    return Command((sys.executable, "-c", code), (("PATH", "/usr/bin:/bin"),))


def test_lines_come_as_they_are_said_and_the_status_is_told() -> None:
    lines: list[str] = []
    code = (
        "import sys; print('out', flush=True); print('err\\r', file=sys.stderr)\n"
        "sys.stderr.write('end'); sys.exit(7)"
    )
    assert follow(python(code), lines.append) == 7
    assert lines == ["out", "err", "end"]
    status, answer = ask(python(code), lines.append)
    assert (status, answer, lines[3:]) == (7, "out\n", ["err", "end"])


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("print('x: no star', file=sys.stderr); sys.exit(4)", DataError, "no star"),
        ("sys.exit('no such key')", DiffrunError, "x ended with 1: no such key"),
        ("os.kill(os.getpid(), 9)", DiffrunError, "x was ended by SIGKILL; last it said: it said nothing"),
        ("print('{')", DiffrunError, "x gave no JSON; it said: it said nothing"),
    ],
)
def test_a_program_that_does_not_answer(code: str, kind: type[DiffrunError], words: str) -> None:
    with pytest.raises(DiffrunError) as refused:
        asked(python(f"import os, sys; {code}"), "x")
    assert (type(refused.value), str(refused.value)) == (kind, words)


def test_a_line_without_end_is_handed_on_in_pieces() -> None:
    lines: list[str] = []
    assert follow(python("import sys; sys.stdout.write('x' * 1_000_000)"), lines.append) == 0
    assert sum(map(len, lines)) == 1_000_000
    assert max(map(len, lines)) <= 2 * 65536


def test_bytes_that_are_no_text_do_no_harm() -> None:
    lines: list[str] = []
    assert follow(python(r"import sys; sys.stdout.buffer.write(b'\xff\x00\n')"), lines.append) == 0
    assert lines == ["\ufffd\0"]


def test_a_worker_that_outlives_its_head_is_ended() -> None:
    code = (
        "import subprocess, sys\n"
        "worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(worker.pid)"
    )
    lines: list[str] = []
    before = time.monotonic()
    assert follow(python(code), lines.append) == 0
    assert time.monotonic() - before < 10
    state = Path(f"/proc/{lines[0]}/stat")
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() - before < 10
        time.sleep(0.01)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(DiffrunError, match="cannot start /none"):
        follow(Command(("/none",), ()), print)


def test_standard_input_is_closed_to_the_child() -> None:
    lines: list[str] = []
    assert follow(python("import sys; print(repr(sys.stdin.read()))"), lines.append) == 0
    assert lines == ["''"]
