# SPDX-License-Identifier: BSD-3-Clause
"""Of a template far larger than the science image only what lies beneath is kept in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scenes import Profile

from diffrun.engine import overlap
from diffrun.engine.makecalexp import __main__ as makecalexp
from diffrun.engine.makecalexp import look
from diffrun.engine.survey import survey
from diffrun.errors import DataError, NoOverlapError
from diffrun.files.afw.background import Background, Layer, write_background
from diffrun.files.afw.exposure import Exposure
from diffrun.files.afw.psf import GaussianPsf
from diffrun.files.afw.reader import read_exposure, read_summary
from diffrun.files.afw.wcs import MADE_UP, TanSipWcs
from diffrun.files.afw.writer import write_exposure
from diffrun.repository.dataid import DataId
from diffrun.repository.paths import relative
from diffrun.repository.register import MAPPER, enter

RECIPE = Path(__file__).parents[2] / "configs" / "diffimconfig.py"
SCALE = 0.2 / 3600
SIZE, LARGE, XY0 = 320, 3200, (-50, 700)
#: The first pixel of the template, and where the middle of the science image is in its parent pixels.
SCIENCE, TEMPLATE, WHOLE = (DataId(visit, "r", "2,2", "1,1") for visit in (1, 2, 3))
PLACE = (XY0[0] + 1500.0, XY0[1] + 640.0)
TRANSIENT = (210.0, 90.0, 9000.0)


def wcs(pixel, degrees):
    """0.2 arcsec pixels, turned about a pixel that sees the one place."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return TanSipWcs((53.0, -27.4), pixel, SCALE * np.array([[-c, s], [s, c]]))


OURS, THEIRS = wcs((SIZE / 2 - 0.5, SIZE / 2 - 0.5), 4.0), wcs(PLACE, 0.0)


def drawn(shape, xy0, fwhm, sources):
    """Stars (x, y, flux) at parent pixels on a sky of 800."""
    image, profile = np.full((shape[0] + 80, shape[1] + 80), 800.0), Profile(fwhm, np.inf)
    for x, y, flux in sources:
        i, j = round(y), round(x)
        row, column = i - xy0[1] + 20, j - xy0[0] + 20
        if 0 <= row < shape[0] + 39 and 0 <= column < shape[1] + 39:
            image[row : row + 41, column : column + 41] += flux * profile.stamp(x - j, y - i)
    return image[40:-40, 40:-40]


def noisy(image, seed):
    return np.random.default_rng(seed).poisson(image).astype(np.float32)


def exposed(image, where, xy0, fwhm):
    psf, blank = GaussianPsf((31, 31), fwhm / 2.3548), np.zeros(image.shape, np.int32)
    return Exposure(image - np.float32(800), blank, image.copy(), where, psf, xy0, filter="r", flux_mag0=1e12)


def sky_of(x, y):
    return OURS.sky_to_pixel(*THEIRS.pixel_to_sky(x, y))


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """The science image, the part of the template that is beneath it, and the whole template."""
    root = tmp_path_factory.mktemp("huge") / "repo"
    random = np.random.default_rng(5)
    x, y = random.uniform(0, LARGE, (2, 7000)) + np.array(XY0)[:, None]
    stars = np.stack([x, y, 10 ** random.uniform(3.3, 5.0, 7000)], axis=1)
    ours = np.stack([*sky_of(x, y), stars[:, 2]], axis=1)
    science = exposed(noisy(drawn((SIZE, SIZE), (0, 0), 4.2, [*ours, TRANSIENT]), 1), OURS, (0, 0), 4.2)
    large = exposed(noisy(drawn((LARGE, LARGE), XY0, 3.5, stars), 2), THEIRS, XY0, 3.5)
    root.mkdir()
    (root / "_mapper").write_bytes(MAPPER)
    for data_id, one in ((SCIENCE, science), (WHOLE, large)):
        write_exposure(root / relative("calexp", data_id), one)
    both = [read_summary(root / relative("calexp", one)) for one in (WHOLE, SCIENCE)]
    cut = overlap.beneath(*both, 17)  # half of the largest kernel
    planes = {name: getattr(large, name)[cut] for name in ("image", "mask", "variance")}
    part = large.replace(xy0=(XY0[0] + cut[1].start, XY0[1] + cut[0].start), **planes)
    write_exposure(root / relative("calexp", TEMPLATE), part)
    for data_id, one in ((SCIENCE, science), (TEMPLATE, part), (WHOLE, large)):
        (ny, nx), level = one.shape, np.full((2, 2), 800, np.float32)
        layer = Layer(level, level, (*one.xy0, nx, ny), "LINEAR")
        write_background(root / relative("calexpBackground", data_id), Background((layer,)))
        enter(root, data_id, 15.0)
    return root


def run(repository, template, output):
    """The program in a process of its own, and its largest memory in MiB."""
    words = ["--id", f"visit={SCIENCE.visit}", "--templateId", f"visit={template}", "--output", output]
    command = [sys.executable, "-m", "diffrun.engine", repository, *words, "--configfile", RECIPE]
    child = subprocess.Popen(
        [str(word) for word in command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    assert child.returncode == 0, said.decode()
    return usage.ru_maxrss / 1024


def test_the_difference_is_that_of_the_part_beneath_in_its_memory(repository, tmp_path):
    used = [run(repository, one.visit, tmp_path / str(one.visit)) for one in (TEMPLATE, WHOLE)]
    names = ("differenceExp", "matchedExp", "kernel", "diaSrc")
    assert used[1] < used[0] + 15, used
    for name in names:
        files = [tmp_path / str(v.visit) / relative(f"deepDiff_{name}", SCIENCE) for v in (TEMPLATE, WHOLE)]
        if files[0].exists() or name != "matchedExp":
            assert files[0].read_bytes() == files[1].read_bytes(), name
    difference = read_exposure(tmp_path / "3" / relative("deepDiff_differenceExp", SCIENCE))
    x, y, flux = TRANSIENT
    near = difference.image[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9]
    assert near.sum() == pytest.approx(flux, abs=5 * np.sqrt(17 * 17 * 2 * 800))
    assert not difference.has("NO_DATA").any()


def test_the_advice_looks_at_what_is_beneath(repository):
    """Elsewhere the template may be empty, or of other noise and seeing."""
    found = [survey(repository, {"visit": 1}, {"visit": one.visit}) for one in (TEMPLATE, WHOLE)]
    for each in found:
        del each["template"]["visit"], each["better"]
        for name in ("seconds", "reference"):
            del each["cost"][name]
        each["checks"] = [
            check for check in each["checks"] if check["name"] not in ("time", "memory", "disk")
        ]
    assert found[0] == found[1]
    assert found[1]["overlap_fraction"] == 1


def summary(shape, xy0, where, **metadata):
    blank = np.zeros(shape, np.float32)
    return Exposure(blank, blank.astype(np.int32), blank, where, xy0=xy0, metadata=metadata)


def test_the_part_holds_all_that_the_stars_may_move_there():
    science, template = summary((SIZE, SIZE), (0, 0), OURS), summary((LARGE, LARGE), XY0, THEIRS)
    rows, columns = overlap.beneath(template, science, 10)
    edge = np.linspace(-30.5, SIZE + 29.5, 50)
    x, y = (places.ravel() for places in np.meshgrid(edge, edge))
    u, v = THEIRS.sky_to_pixel(*OURS.pixel_to_sky(x, y))
    assert (u - XY0[0] > columns.start + 3).all() and (u - XY0[0] < columns.stop - 4).all()
    assert (v - XY0[1] > rows.start + 3).all() and (v - XY0[1] < rows.stop - 4).all()
    assert max(rows.stop - rows.start, columns.stop - columns.start) < SIZE * 1.1 + 150


def test_what_is_not_cut():
    science, template = summary((SIZE, SIZE), (0, 0), OURS), summary((LARGE, LARGE), XY0, THEIRS)
    assert overlap.beneath(summary((SIZE, SIZE), XY0, THEIRS), science, 10) is None  # no larger
    assert overlap.beneath(summary((500, 500), (1250, 1100), THEIRS), science, 10) is None  # most is needed
    assert overlap.beneath(summary((LARGE, LARGE), XY0, THEIRS, **{MADE_UP: True}), science, 10) is None
    with pytest.raises(NoOverlapError, match="does not overlap"):
        overlap.beneath(summary((LARGE, LARGE), (9000, 9000), THEIRS), science, 10)
    assert overlap.beneath(template, science, 10) is not None


def packed(path, name, tmp_path):
    """The same file with its pixels compressed, or gzipped, or without checksums."""
    other = tmp_path / f"{name}.fits{'.gz' if name == 'gz' else ''}"
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        if name == "packed":
            found = [hdus[0].copy()]
            for hdu in hdus[1:4]:
                how = {"compression_type": "RICE_1" if hdu.data.dtype.kind == "i" else "GZIP_2"}
                how |= {} if hdu.data.dtype.kind == "i" else {"quantize_level": 0}
                found.append(fits.CompImageHDU(hdu.data, hdu.header, tile_shape=(50, 700), **how))
            hdus = fits.HDUList([*found, *(hdu.copy() for hdu in hdus[4:])])
        hdus.writeto(other, checksum=name != "bare")
    return other


@pytest.mark.parametrize("name", ["plain", "bare", "packed", "gz"])
def test_a_part_is_read_as_it_stands_in_the_whole(repository, tmp_path, name):
    path = repository / relative("calexp", SCIENCE)
    path = path if name == "plain" else packed(path, name, tmp_path)
    whole = read_exposure(path)
    for rows, columns in ((slice(17, 203), slice(41, 42)), (slice(319, 320), slice(0, 320))):
        part = read_exposure(path, lambda _, part=(rows, columns): part)
        assert part.xy0 == (columns.start, rows.start)
        for plane in ("image", "mask", "variance"):
            assert np.array_equal(getattr(part, plane), getattr(whole, plane)[rows, columns])
            assert getattr(part, plane).dtype == getattr(whole, plane).dtype


@pytest.mark.parametrize("name", ["plain", "packed", "gz"])
def test_damage_beside_the_part_is_seen_where_there_is_a_checksum(repository, tmp_path, name):
    import gzip

    path = tmp_path / "damaged.fits"
    content = bytearray((repository / relative("calexp", SCIENCE)).read_bytes())
    if name == "packed":
        content = bytearray(packed(repository / relative("calexp", SCIENCE), name, tmp_path).read_bytes())
    content[-2880 * 60] ^= 1  # in a plane's last rows
    path.write_bytes(gzip.compress(content) if name == "gz" else content)
    with pytest.raises(DataError, match="damaged"):
        read_exposure(path, lambda _: (slice(0, 20), slice(0, 20)))


@pytest.mark.parametrize("order", [None, 3])
def test_the_sky_of_a_part_is_that_of_the_whole(order):
    level = np.random.default_rng(3).normal(800, 9, (7, 9)).astype(np.float32)
    sky = Background((Layer(level, np.ones_like(level), (5, 9, 410, 330), order=order),))
    rows, columns = slice(60, 201), slice(33, 400)
    part = np.zeros((141, 367), np.float32)
    sky.added_to(part, (330, 410), (rows, columns))
    assert np.array_equal(part, sky.image((330, 410))[rows, columns])
    with pytest.raises(DataError, match="410 x 330 pixels, the image 411 x 330"):
        sky.added_to(part, (330, 411), (rows, columns))


PLAIN = 2600
BENEATH = "1024,1792,256,1024"


def plain(path, image, pixel, degrees, packed=False):
    """A plain image with its mask and its variance, on the same sky."""
    bad = np.zeros(image.shape, np.uint8)
    bad[40:44, 40:44] = bad[-44:-40, -44:-40] = 1
    header = fits.Header({"FILTER": "r", "EXPTIME": 15.0, "RADESYS": "ICRS", "CTYPE1": "RA---TAN"})
    header.update(CTYPE2="DEC--TAN", CRVAL1=53.0, CRVAL2=-27.4, CRPIX1=pixel[0] + 1, CRPIX2=pixel[1] + 1)
    for (i, j), value in np.ndenumerate(wcs(pixel, degrees).cd):
        header[f"CD{i + 1}_{j + 1}"] = value
    how = {"compression_type": "GZIP_2", "quantize_level": 0, "tile_shape": (64, 300)}
    first = (
        fits.CompImageHDU(image, header, name="SCI", **how) if packed else fits.ImageHDU(image, header, "SCI")
    )
    planes = [fits.ImageHDU(bad, name="DQ"), fits.ImageHDU(image, name="VAR")]
    fits.HDUList([fits.PrimaryHDU(), first, *planes]).writeto(path, checksum=True)
    return path


@pytest.fixture(scope="module")
def plain_pair(tmp_path_factory):
    """A science image, a template of 66 times the pixels, the same packed, and what is beneath by hand."""
    folder, random = tmp_path_factory.mktemp("plain"), np.random.default_rng(6)
    place = (1410.0, 640.0)
    below = wcs(place, 0.0)
    x, y = random.uniform(0, PLAIN, (2, 5000))
    flux = 10 ** random.uniform(3.3, 5.0, 5000)
    ours = np.stack([*OURS.sky_to_pixel(*below.pixel_to_sky(x, y)), flux], axis=1)
    science = noisy(drawn((SIZE, SIZE), (0, 0), 4.2, [*ours, TRANSIENT]), 3)
    large = noisy(drawn((PLAIN, PLAIN), (0, 0), 3.5, np.stack([x, y, flux], axis=1)), 4)
    plain(folder / "new.fits", science, (SIZE / 2 - 0.5,) * 2, 4.0)
    plain(folder / "old.fits", large, place, 0.0)
    plain(folder / "packed.fits", large, place, 0.0, packed=True)
    x0, x1, y0, y1 = map(int, BENEATH.split(","))
    plain(folder / "cut.fits", large[y0:y1, x0:x1], (place[0] - x0, place[1] - y0), 0.0)
    with fits.open(folder / "cut.fits", mode="update", checksum=True) as hdus:
        hdus["DQ"].data[:] = 0  # the bad pixels are elsewhere in the whole
    return folder


def made(folder, name, root, *words):
    """A calexp made in a process of its own, and its largest memory in MiB."""
    command = [
        sys.executable,
        "-m",
        "diffrun.engine.makecalexp",
        folder / name,
        "--output",
        root,
        "--visit",
        "7",
    ]
    child = subprocess.Popen([*map(str, command), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = child.stderr.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    assert child.returncode == 0, said
    return read_exposure(root / "calexp/v7-fr/R22/S11.fits"), said, usage.ru_maxrss / 1024


def test_of_a_plain_template_only_what_is_beneath_is_made(plain_pair, tmp_path):
    cut, _, usual = made(plain_pair, "cut.fits", tmp_path / "cut")
    for name in ("old.fits", "packed.fits"):
        images = [(plain_pair / "new.fits", None), (plain_pair / name, None)]
        assert look.section(*images) == BENEATH
        part, said, used = made(plain_pair, name, tmp_path / name, "--section", BENEATH)
        assert "of the image columns 1024 to 1791, rows 256 to 1023 are taken" in said
        assert used < usual + (20 if name == "old.fits" else 60)  # whole, it would take 300 more
        for plane in ("image", "mask", "variance"):
            assert np.array_equal(getattr(part, plane), getattr(cut, plane)), (name, plane)
        places = np.array([0.0, 767.0]), np.array([767.0, 3.0])
        assert np.allclose(part.wcs.pixel_to_sky(*places), cut.wcs.pixel_to_sky(*places), rtol=0, atol=1e-10)


def test_what_a_section_is_not(plain_pair, tmp_path, capsys):
    words = [str(plain_pair / "new.fits"), "--output", str(tmp_path / "r"), "--visit", "1", "--section"]
    assert makecalexp.main([*words, "5,3,0,9"]) == 2
    assert "'5,3,0,9' is not a part of an image; write X0,X1,Y0,Y1" in capsys.readouterr().err
    assert makecalexp.main([*words, "0,400,0,320"]) == 4
    assert "the image has 320 x 320 pixels, fewer than its section needs" in capsys.readouterr().err
    same = (plain_pair / "new.fits", None)
    assert look.section(same, same) is None
    (tmp_path / "nowhere.fits").write_bytes((plain_pair / "old.fits").read_bytes())
    fits.setval(tmp_path / "nowhere.fits", "CRVAL1", value=57.0, ext=1)
    assert look.section(same, (tmp_path / "nowhere.fits", None)) is None


def test_two_files_of_which_the_template_is_huge(plain_pair, tmp_path):
    command = [
        sys.executable,
        "-c",
        "from diffrun.cli import main; main()",
        "--science",
        plain_pair / "new.fits",
    ]
    run = subprocess.run(
        [*map(str, command), "--template", str(plain_pair / "old.fits")],
        env={**os.environ, "DIFFRUN_CACHE": str(tmp_path / "cache")},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    record = json.loads((tmp_path / "diffrun-output/new-old/record.json").read_text())
    assert BENEATH in json.dumps(record)
    assert "sources    1: 1 positive" in run.stdout
