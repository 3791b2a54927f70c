# SPDX-License-Identifier: BSD-3-Clause
"""Default < site < environment < command line, and each value knows its origin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diffrun.errors import ConfigError, UsageError
from diffrun.request import Request
from diffrun.settings import resolve, unknown_variables

PLAIN = Request(science=230, template=250)


@pytest.fixture
def site(tmp_path: Path) -> str:
    path = tmp_path / "here.yaml"
    path.write_text("program: engine\nruntime: native\njobs: 3\nrepo: /site/repo\noutput_root: /site/out\n")
    return str(path)


def test_each_layer_overrides_the_one_before(site: str) -> None:
    assert (resolve(PLAIN, {}).jobs.value, resolve(PLAIN, {}).jobs.origin) == (1, "default")
    request = replace(PLAIN, site=site)
    found = resolve(request, {})
    assert (found.jobs.value, found.jobs.origin) == (3, f"site {site}")
    found = resolve(request, {"DIFFRUN_JOBS": "5"})
    assert (found.jobs.value, found.jobs.origin) == (5, "DIFFRUN_JOBS")
    found = resolve(replace(request, jobs=7), {"DIFFRUN_JOBS": "5"})
    assert (found.jobs.value, found.jobs.origin) == (7, "--jobs")
    assert (found.repo.value, found.repo.origin) == (Path("/site/repo"), f"site {site}")


def test_the_site_itself_has_an_origin(site: str) -> None:
    assert resolve(PLAIN, {}).site.origin == "default"
    assert resolve(PLAIN, {"DIFFRUN_SITE": site}).site.origin == "DIFFRUN_SITE"
    assert resolve(replace(PLAIN, site="laptop"), {"DIFFRUN_SITE": site}).site.value == "laptop"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DIFFRUN_JOBS": "many"}, "DIFFRUN_JOBS 'many' is not a number"),
        ({"DIFFRUN_RUNTIME": "dokcer"}, r"DIFFRUN_RUNTIME 'dokcer' is unknown; did you mean 'docker'\?"),
        ({"DIFFRUN_SITE": "moon"}, "unknown site 'moon'"),
    ],
)
def test_a_bad_value_names_who_set_it(environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(PLAIN, environment)


@pytest.mark.parametrize("line", ["jobs: many", "program: [engine]", "jobs: true", "repo: relative/path"])
def test_a_bad_value_of_a_site(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.yaml").write_text(line)
    with pytest.raises(UsageError, match=rf"site .*bad\.yaml: {line.split(':')[0]}"):
        resolve(replace(PLAIN, site=str(tmp_path / "bad.yaml")), {})


def test_a_variable_that_is_no_setting_is_told() -> None:
    (line,) = unknown_variables({"DIFFRUN_RUNTME": "native", "DIFFRUN_JOBS": "2", "HOME": "/"})
    assert line == "DIFFRUN_RUNTME is not a setting and changes nothing; did you mean 'DIFFRUN_RUNTIME'?"


def test_settings_print_themselves_with_their_origin(site: str) -> None:
    text = str(resolve(replace(PLAIN, site=site), {"DIFFRUN_JOBS": "5"}))
    assert "5  (DIFFRUN_JOBS)" in text
    assert f"native  (site {site})" in text


def test_config_errors_are_usage_errors() -> None:
    assert ConfigError("x").exit_code == UsageError("x").exit_code == 2
