# SPDX-License-Identifier: BSD-3-Clause
"""Site files are data: what else YAML can say is refused by name."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from diffrun import sites
from diffrun.errors import ConfigError

BOMB = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n"


@pytest.mark.parametrize("name", sites.names())
def test_the_sites_that_come_with_it(name: str) -> None:
    found = sites.read(name)
    assert found["program"] in ("engine", "stack")
    assert found["description"]


def test_the_sites_by_name() -> None:
    assert sites.names() == ["cori", "laptop", "perlmutter", "slurm"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("program: !!python/object/apply:os.system ['touch owned']", "a tag"),
        ("program: !!str engine", "a tag"),
        ("program: !lsst.pex.config.Config {}", "a tag"),
        ("program: &x engine", "an anchor"),
        ("program: &x engine\nruntime: *x", "an anchor"),
        ("program: *x", "an alias"),
        (BOMB, "an anchor"),
        ("program: engine\nprogram: stack", "a key given twice"),
        ("jobs: 010", r"octal.*010"),
        ("jobs: 0230", r"octal.*0230"),
        ("jobs: 0o17", "octal"),
        ("jobs: 0x1F", "hexadecimal"),
        ("jobs: 1:30", "sexagesimal"),
        ("jobs: 1_000", "padded"),
        ("[" * 500, r"nesting .*deeper than 20"),
        ("{" * 500, r"nesting .*deeper than 20"),
        ("batch: shared", "batch is not a mapping"),
        ("batch:\n  acount: m1", r"batch: unknown key 'acount'; did you mean 'account'\?"),
        ("progam: engine", r"unknown key 'progam'; did you mean 'program'\?"),
        ("<<: {program: engine}", "unknown key '<<'"),
        ("? [a, b]\n: c", "a key"),
        ("- program", "not a mapping"),
        ("engine", "not a mapping"),
        ("", "not a mapping"),
        ("program: engine\n---\nprogram: stack", "expected a single document"),
        ("program: 'engine", "while|unexpected|found"),
        ("program: \x07", "special characters"),
        ("%YAML 9.9\n---\nprogram: engine", "found incompatible YAML document"),
    ],
)
def test_anything_but_plain_data_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        sites.parse(text, "here.yaml")
    assert "\n" not in str(refused.value)
    assert "here.yaml" in str(refused.value)
    assert not Path("owned").exists()


@given(st.text(alphabet=" \n:-[]{}&*!|>'\"%@#?,abc019.~<=_\t", max_size=80))
def test_any_text_gives_plain_data_or_a_refusal(text: str) -> None:
    before = time.monotonic()
    try:
        found = sites.parse(text, "fuzz")
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert set(found) <= set(sites.KEYS)
    assert time.monotonic() - before < 1


def test_words_and_numbers_mean_what_they_say() -> None:
    found = sites.parse("program: no\nruntime: 'true'\njobs: 12\nrepo: null\ndescription: 1.5", "here")
    assert found == {"program": "no", "runtime": "true", "jobs": 12, "repo": None, "description": "1.5"}


def test_a_constructor_that_another_package_registers_does_not_reach_it() -> None:
    code = (
        "import yaml, diffrun.sites as s\n"
        "yaml.SafeLoader.add_constructor('!evil', lambda loader, node: 1 / 0)\n"
        "yaml.SafeLoader.add_multi_constructor('', lambda loader, suffix, node: 1 / 0)\n"
        "try:\n    s.parse('program: !evil x', 'here')\nexcept s.ConfigError as e:\n    print(e)\n"
        "print(s.parse('program: engine', 'here'))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "a tag (!evil) is not allowed" in run.stdout
    assert "{'program': 'engine'}" in run.stdout


def test_the_loader_leaves_pyyaml_as_it_was() -> None:
    assert yaml.safe_load("a: 0230") == {"a": 152}


def test_files_that_are_no_site_files(tmp_path: Path) -> None:
    large, binary = tmp_path / "large.yaml", tmp_path / "binary.yaml"
    large.write_text("description: " + "x" * 70000)
    binary.write_bytes(b"program: \xff\xfe")
    for path, words in (
        (large, "larger than 64 KiB"),
        (binary, "not UTF-8"),
        (tmp_path / "no.yaml", "not a file"),
    ):
        with pytest.raises(ConfigError, match=words):
            sites.read(str(path))
    with pytest.raises(ConfigError, match=r"unknown site 'perlmuter'; did you mean 'perlmutter'\?"):
        sites.read("perlmuter")
    with pytest.raises(ConfigError, match=r"unknown site '\.\./\.\./etc/passwd'"):
        sites.read("../../etc/passwd")
