# SPDX-License-Identifier: BSD-3-Clause
"""Two plain images as they are typed: which are taken, what goes with them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffrun.errors import UsageError
from diffrun.frames import Frame, typed_again
from diffrun.request import Request


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two files in the current folder, as one types them there."""
    monkeypatch.chdir(tmp_path)
    for name in ("new.fits.gz", "old.fits", "230", "bad pixels.fits"):
        (tmp_path / name).write_bytes(b"")
    return {"science": "new.fits.gz", "template": "old.fits"}


def frames(typed: dict[str, str]) -> tuple[Frame, Frame]:
    request = Request.parse(typed)
    assert isinstance(request.science, Frame)
    assert isinstance(request.template, Frame)
    return request.science, request.template


def test_two_files_are_two_images(both: dict[str, str], tmp_path: Path) -> None:
    science, template = frames(both)
    assert (science.path, template.path) == (tmp_path / "new.fits.gz", tmp_path / "old.fits")
    assert Request.parse(both).name == "new-old"
    assert science.options == template.options == {}


def test_a_number_is_a_visit_whatever_files_there_are(both: dict[str, str]) -> None:
    assert Request.parse({"science": "230", "template": "250"}).science == 230
    assert frames({**both, "science": "./230"})[0].name == "230"


@pytest.mark.parametrize(
    ("typed", "science", "template"),
    [("4.76", 4.76, 4.76), ("4.76,4.6", 4.76, 4.6), (",4.6", None, 4.6), ("4.76,", 4.76, None)],
)
def test_one_value_for_both_images_or_two(
    both: dict[str, str], typed: str, science: float | None, template: float | None
) -> None:
    found = frames({**both, "gain": typed})
    assert (found[0].gain, found[1].gain) == (science, template)


def test_what_goes_with_an_image(both: dict[str, str], tmp_path: Path) -> None:
    more = {"science_mask": "bad pixels.fits", "hdu": "SCI,2", "filter": "r", "saturation": "6e4"}
    science, template = frames({**both, **more})
    assert science.files == {"image": tmp_path / "new.fits.gz", "mask": tmp_path / "bad pixels.fits"}
    assert (science.filter, template.filter) == ("r", None)
    assert science.options == {"hdu": "SCI", "saturation": 6e4}
    assert template.options == {"hdu": "2", "saturation": 6e4}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"hdu": "SCI,2", "gain": ",4.6", "psf_fwhm": "3.25"},
        {"science_variance": "230", "template_mask": "bad pixels.fits", "template_filter": "g"},
    ],
)
def test_what_was_typed_can_be_typed_again(both: dict[str, str], more: dict[str, str]) -> None:
    first = frames({**both, **more})
    assert frames(typed_again(*first)) == first


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"template": "250"}, "--science is a file, and --template '250' is none; give two FITS files"),
        ({"science": "230"}, "--template is a file, and --science '230' is none"),
        ({"science": "no.fits"}, "--science 'no.fits' is none"),
        ({"science": "no.fits", "template": "no2.fits"}, "'no.fits' is not a visit, and not a file"),
        ({"science": "."}, "--science '.' is none"),
        ({"repo": "."}, "--repo goes with visits, not with two images"),
        ({"raft": "R22"}, "--raft goes with visits"),
        ({"science_mask": "none.fits"}, "--science-mask 'none.fits' is not a file"),
        ({"template_variance": ""}, "--template-variance '' is not a path"),
        ({"gain": "1,2,3"}, "--gain '1,2,3' is not one value or two"),
        ({"gain": ","}, "--gain ',' is not one value or two"),
        ({"gain": "0"}, "--gain '0' is not a number above 0"),
        ({"psf_fwhm": "inf"}, "--psf-fwhm 'inf' is not a number above 0"),
        ({"saturation": "1,x"}, "--saturation 'x' is not a number above 0"),
    ],
)
def test_what_does_not_go_together_is_refused(both: dict[str, str], more: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        Request.parse({**both, **more})
    assert words in str(refused.value)


@pytest.mark.parametrize("option", ["science_mask", "template_variance", "gain", "saturation", "hdu"])
def test_what_goes_with_images_does_not_go_with_visits(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} goes with two images"):
        Request.parse({"science": "230", "template": "250", option: "1"})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a.fits", "a"), ("a.FIT.gz", "a"), ("a.b.fits.fz", "a.b"), ("-x.fits", "x"), ("../é b.fits", "__b"),
        (".fits", "image"), ("x" * 90, "x" * 60), ("fits", "fits"),
    ],
)  # fmt: skip
def test_the_name_of_a_folder_is_made_of_that_of_the_file(name: str, meant: str) -> None:
    assert Frame(Path(name)).name == meant
