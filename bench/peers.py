# SPDX-License-Identifier: BSD-3-Clause
"""Other programs on the same pair: SWarp, HOTPANTS and Source Extractor, and what pip can install.

Programs are looked for on the PATH, or named by DIFFRUN_BENCH_SWARP, DIFFRUN_BENCH_HOTPANTS and
DIFFRUN_BENCH_SEXTRACTOR. What pip installs lies in an environment of its own in the user's cache.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import engine
import numpy as np
import plain
from astropy.io import fits
from detection import detect
from engine import Failed, Used
from measures import blank_sky, judge, matched_filter
from numpy.typing import NDArray
from platformdirs import user_cache_path
from subject import Sources, Subject, Truth

from diffrun.capacity import free_memory

PROGRAMS = Path(__file__).with_name("programs")
#: A program's variable, and its names on the PATH.
NAMES = {
    "swarp": ("DIFFRUN_BENCH_SWARP", "SWarp", "swarp"),
    "hotpants": ("DIFFRUN_BENCH_HOTPANTS", "hotpants"),
    "sextractor": ("DIFFRUN_BENCH_SEXTRACTOR", "source-extractor", "sextractor", "sex"),
}
BUILDERS = ("numpy", "scipy", "astropy", "cython", "wheel", "setuptools<81")
#: What pip installs: first what a package needs to be built or to run, then the package.
PIP = {
    "sfft": (("numpy<2.4",), ("sfft",)),
    "stdpipe": ((), ("stdpipe",)),
    "properimage": (BUILDERS, ("--no-build-isolation", "properimage")),
    "ois": (BUILDERS, ("--no-build-isolation", "ois")),
    "matplotlib": ((), ("matplotlib",)),
}
#: Bytes of memory that they need for a pixel.
NEEDS = {"sfft": 3000, "stdpipe": 600, "properimage": 650, "ois": 1150}
#: Names in the tables.
TITLES = {
    "chain": "SWarp, HOTPANTS, Source Extractor", "stdpipe": "SWarp, ZOGY of stdpipe",
    "sfft": "SWarp, SFFT (NumPy)", "properimage": "SWarp, properimage", "ois": "SWarp, ois",
}  # fmt: skip

Image = NDArray[np.float32]
Numbers = dict[str, float]
PsfAt = Callable[[float, float], NDArray[np.float64]]


@dataclass(frozen=True)
class Outcome:
    """What a peer used and reached; ``trouble`` says why there is nothing."""

    used: Used | None = None
    subject: Subject | None = None
    numbers: Numbers | None = None
    trouble: str = ""
    parts: dict[str, Used] | None = None


def program(name: str) -> str:
    """The path of a program, or `Failed`."""
    variable, *names = NAMES[name]
    for word in (os.environ.get(variable, ""), *names):
        found = shutil.which(word) if word else None
        if found:
            return found
    raise Failed(f"no {name}: name its program by {variable}")


def warp(pair: plain.Plain) -> Used:
    """The template and its variance on the pixels of science by SWarp: warped.fits, warped.var.fits."""
    words = [program("swarp"), "template.fits", "-c", os.devnull, "-VERBOSE_TYPE", "QUIET", "-WRITE_XML", "N"]
    words += ["-IMAGEOUT_NAME", "warped.fits", "-WEIGHTOUT_NAME", "warped.weight.fits", "-NTHREADS", "2"]
    words += ["-WEIGHT_TYPE", "MAP_VARIANCE", "-WEIGHT_IMAGE", "template.var.fits", "-SUBTRACT_BACK", "N"]
    words += ["-FSCALASTRO_TYPE", "NONE", "-RESAMPLING_TYPE", "LANCZOS3"]
    used = engine.run(words, pair.folder / "swarp.log")
    with fits.open(pair.folder / "warped.weight.fits") as hdus:
        weight = hdus[0].data
        good = weight > 1e-20
        variance = np.where(good, 1 / np.where(good, weight, 1), plain.USELESS).astype(np.float32)
    fits.writeto(pair.folder / "warped.var.fits", variance, overwrite=True)
    for name, exposure in (("science", pair.science), ("template", pair.template)):
        fits.writeto(pair.folder / f"{name}.psf.fits", plain.middle_psf(exposure), overwrite=True)
        _noise(pair.folder, "science" if name == "science" else "warped")
    return used


def _noise(folder: Path, name: str) -> None:
    noise = np.sqrt(fits.getdata(folder / f"{name}.var.fits"))
    fits.writeto(folder / f"{name}.noise.fits", noise, overwrite=True)


def hotpants(pair: plain.Plain) -> tuple[Used, Subject]:
    """Alard and Lupton's kernel with widths by the rule of thumb, the template convolved, given the noise.

    The sharper image is what it convolves, widths are 0.5, 1 and 2 times what is lacking.
    """
    fwhm, other = pair.fwhm
    lacking = np.sqrt(max(abs(fwhm**2 - other**2), 1.0)) / 2.3548
    words = [program("hotpants"), "-inim", "science.fits", "-tmplim", "warped.fits"]
    words += [
        "-outim",
        "hotpants.fits",
        "-ini",
        "science.noise.fits",
        "-tni",
        "warped.noise.fits",
        "-oni",
        "hotpants.noise.fits",
    ]
    words += ["-omi", "hotpants.mask.fits", "-c", "t" if fwhm > other else "i", "-n", "i"]
    words += ["-tu", "90000", "-iu", "90000", "-tl", "-1000", "-il", "-1000", "-r", "10", "-rss", "15"]
    words += ["-ng", "3", "6", f"{lacking / 2:.2f}", "4", f"{lacking:.2f}", "2", f"{2 * lacking:.2f}"]
    used = engine.run(words, pair.folder / "hotpants.log")
    image, noise, mask = (
        fits.getdata(pair.folder / f"hotpants{end}.fits") for end in ("", ".noise", ".mask")
    )
    spoilt = (mask != 0) | pair.science.has("SAT", "NO_DATA") | ~(noise > 0)
    return used, _subject(image, noise.astype(np.float32) ** 2, spoilt, pair.wide.psf.kernel_image)


def extract(pair: plain.Plain) -> Used:
    """Source Extractor on the difference of HOTPANTS, one sign, for its cost: its sources are not used."""
    settings = {
        "CATALOG_NAME": "found.cat", "CATALOG_TYPE": "FITS_LDAC", "WEIGHT_TYPE": "MAP_RMS",
        "WEIGHT_IMAGE": "hotpants.noise.fits", "DETECT_THRESH": "1.5", "BACK_TYPE": "MANUAL",
        "FILTER": "N", "VERBOSE_TYPE": "QUIET", "PHOT_APERTURES": "12", "DETECT_MINAREA": "5",
        "PARAMETERS_NAME": "found.param",
    }  # fmt: skip
    names = ("X_IMAGE", "Y_IMAGE", "FLUX_APER", "FLUXERR_APER", "FLUX_AUTO", "FLUXERR_AUTO", "FLAGS")
    (pair.folder / "found.param").write_text("\n".join(names) + "\n")
    words = [program("sextractor"), "hotpants.fits", "-c", os.devnull]
    words += [word for key, value in settings.items() for word in (f"-{key}", value)]
    return engine.run(words, pair.folder / "sextractor.log")


def python_of(name: str) -> Path:
    """The interpreter of a package's own environment, made at the first use; `Failed` if pip cannot."""
    folder = user_cache_path("diffrun-bench") / f"{name}-py{sys.version_info.major}{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.parent / f"{name}.log"
        engine.run([sys.executable, "-m", "venv", "--clear", folder], log)
        for packages in filter(None, PIP[name]):
            engine.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], log)
        done.touch()
    return python


def from_pip(name: str, pair: plain.Plain) -> tuple[Used, Subject]:
    """A package of `PIP` on the warped pair; its noise is said to be that of both frames."""
    need, spare = NEEDS[name] * pair.science.image.size, free_memory()
    if spare is not None and need > spare:
        raise Failed(f"needs {need / 2**30:.0f} GiB of memory, {spare / 2**30:.0f} GiB are free")
    python = python_of(name)
    variables = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    if name == "sfft":
        (pair.folder / "bin").mkdir(exist_ok=True)
        (pair.folder / "bin" / "sex").unlink(missing_ok=True)
        (pair.folder / "bin" / "sex").symlink_to(program("sextractor"))
        variables["PATH"] = f"{pair.folder / 'bin'}:{os.environ['PATH']}"
    log = pair.folder / f"{name}.log"
    used = engine.run([python, PROGRAMS / f"{name}_.py"], log, environment=variables)
    with np.load(pair.folder / "difference.npz") as found:
        image, stamp = found["image"], found.get("psf")
    variance = pair.science.variance + fits.getdata(pair.folder / "warped.var.fits")
    spoilt = ~np.isfinite(image) | ~(variance < 1e20)
    if stamp is None:
        return used, _subject(image, variance, spoilt, pair.wide.psf.kernel_image)
    stamp = np.asarray(stamp, float) / stamp.sum()
    return used, _subject(image, variance, spoilt, lambda x, y: stamp)


def _subject(image: Image, variance: Image, spoilt: NDArray[np.bool_], psf: PsfAt) -> Subject:
    none = np.zeros(0)
    empty = Sources(none, none, none, none, np.zeros(0, bool), none)
    return Subject(np.asarray(image, np.float32), np.asarray(variance, np.float32), spoilt, psf, empty)


def judged(subject: Subject, truth: Truth) -> Numbers:
    """The measures, with the one detection for all, whose 5 sigma are those of the image's true scatter."""
    scatter = matched_filter(subject, blank_sky(subject, truth))["k_robust"]
    return judge(replace(subject, sources=detect(subject, scatter)), truth)


def rescaled(subject: Subject, truth: Truth) -> Subject:
    """With its variance made right on blank sky, for programs that give none."""
    blank = blank_sky(subject, truth)
    z = subject.image[blank] / np.sqrt(subject.variance[blank])
    scale = 1.4826 * np.median(np.abs(z - np.median(z)))
    return replace(subject, variance=subject.variance * np.float32(scale**2))


def chain(pair: plain.Plain, truth: Truth, warped: Used) -> Outcome:
    """SWarp, HOTPANTS and Source Extractor."""
    used, subject = hotpants(pair)
    parts = {"SWarp": warped, "HOTPANTS": used, "Source Extractor": extract(pair)}
    total = parts["SWarp"] + parts["HOTPANTS"] + parts["Source Extractor"]
    return Outcome(total, subject, judged(subject, truth), parts=parts)


def other(name: str, pair: plain.Plain, truth: Truth, warped: Used) -> Outcome:
    """SWarp and a package of `PIP`."""
    used, subject = from_pip(name, pair)
    subject = rescaled(subject, truth)
    return Outcome(warped + used, subject, judged(subject, truth), parts={"SWarp": warped, name: used})


def compare(repository: Path, folder: Path, truth: Truth, names: tuple[str, ...]) -> dict[str, Outcome]:
    """Every named peer on one pair; what fails says so and stops nothing else."""
    try:
        pair = plain.write(repository, folder)
        warped = warp(pair)
    except Failed as trouble:
        return dict.fromkeys(names, Outcome(trouble=str(trouble)))
    outcomes: dict[str, Outcome] = {}
    for name in names:
        work = chain if name == "chain" else partial(other, name)
        try:
            outcomes[name] = work(pair, truth, warped)
        except (Failed, OSError, ValueError, KeyError) as trouble:
            outcomes[name] = Outcome(trouble=str(trouble))
        print(f"  {TITLES[name]}: {outcomes[name].used or outcomes[name].trouble}", flush=True)
    return outcomes
