# SPDX-License-Identifier: BSD-3-Clause
"""Read a Gen2 repository of obs_lsstSim, and make the output repository that is chained to it.

Nothing of a repository is executed or unpickled, and its registry is opened read-only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from diffrun.errors import DiskFullError, OutputError, RepositoryError, UsageError
from diffrun.repository import paths
from diffrun.repository.dataid import KEYS, DataId, short_name

_MAPPER = "LsstSimMapper"
_LONGEST_CHAIN = 32
_SHOWN = 8


@dataclass(frozen=True)
class Repository:
    """A Gen2 repository and the parents that it reads through.

    Attributes
    ----------
    root : `pathlib.Path`
        As the user gave it, made absolute.
    chain : `tuple` [`pathlib.Path`, ...]
        ``root``, then each ``_parent``, resolved; a dataset is taken from the first that has it.
    mapper : `str`
        Dotted name of the mapper class, from the first ``_mapper`` of the chain.
    """

    root: Path
    chain: tuple[Path, ...]
    mapper: str

    @classmethod
    def open(cls, root: Path | str) -> Repository:
        """Open a repository.

        Raises
        ------
        RepositoryError
            If ``root`` is not a folder, no ``_mapper`` is found through its parents, or the mapper is not
            that of obs_lsstSim.
        """
        root = Path(root).absolute()
        if not root.is_dir():
            raise RepositoryError(f"{root} is not a folder", "give the root of a Gen2 repository")
        chain = tuple(_chain(root))
        return cls(root, chain, _read_mapper(chain))

    def find(self, dataset: str, data_id: DataId | None = None) -> Path | None:
        """The first file of a dataset along the chain, or `None`."""
        place = paths.relative(dataset, data_id)
        return next((folder / place for folder in self.chain if (folder / place).is_file()), None)

    def require(self, dataset: str, data_id: DataId | None = None) -> Path:
        """The file of a dataset; `RepositoryError` naming the path if there is none."""
        found = self.find(dataset, data_id)
        if found is None:
            place = self.root / paths.relative(dataset, data_id)
            of = f" of {data_id}" if data_id else ""
            parents = " or its parents" if len(self.chain) > 1 else ""
            raise RepositoryError(f"no {dataset}{of}: {place} is not in this repository{parents}")
        return found

    def select(self, **known: int | str) -> list[DataId]:
        """All data ids of the registry that have the known values, sorted.

        Parameters
        ----------
        **known
            Any of ``visit``, ``filter``, ``raft``, ``sensor``, in the registry's form.

        Raises
        ------
        RepositoryError
            If nothing matches; the message says what exists instead.
        UsageError
            If a key is not one of a calexp.
        """
        unknown = set(known) - set(KEYS)
        if unknown:
            raise UsageError(f"Unrecognized ID key {min(unknown)!r}; valid keys are: {list(KEYS)}")
        if set(known) == set(KEYS):
            data_id = DataId(**known)  # type: ignore[arg-type]
            # the stack asks no registry then; ours is asked only for the reason why nothing is there
            if self.find("calexp", data_id) or self._registry() is None:
                return [data_id]
        found = self._rows(known)
        if not found:
            raise RepositoryError(self.explain(known))
        return found

    def visits(self) -> dict[int, str]:
        """Filter of each visit of the registry, sorted by visit."""
        return {data_id.visit: data_id.filter for data_id in self._rows({})}

    def explain(self, known: Mapping[str, int | str]) -> str:
        """Why nothing matches these keys, and what exists instead."""
        visit = known.get("visit")
        rows = self._rows({"visit": visit}) if visit is not None else self._rows({})
        if not rows:
            return f"no visit {visit} in {self.root}; {self._nearest(visit)}"
        what = f"visit {visit}" if visit is not None else f"{self.root}"
        names = {data_id.filter for data_id in rows}
        if "filter" in known and known["filter"] not in names:
            return f"{what} has no filter {known['filter']!r}; it has {_listed(sorted(names))}"
        sensors = sorted({short_name(data_id.raft, data_id.sensor) for data_id in rows})
        wanted = " ".join(f"{key} {known[key]!r}" for key in ("raft", "sensor") if key in known)
        return f"{what} has no {wanted}; it has {_listed(sensors)}"

    def _nearest(self, visit: int | str | None) -> str:
        known = self.visits()
        if not known or not isinstance(visit, int):
            return "its registry is empty"
        nearest = sorted(sorted(known, key=lambda other: abs(other - visit))[:4])
        listed = ", ".join(f"{other} ({known[other]})" for other in nearest)
        return f"the nearest of its {len(known)} visits: {listed}"

    def _rows(self, known: Mapping[str, int | str]) -> list[DataId]:
        where = " AND ".join(f"{key} = ?" for key in known)
        query = "SELECT DISTINCT visit, filter, raft, sensor FROM raw" + (f" WHERE {where}" if where else "")
        path = self._registry()
        if path is None:
            raise RepositoryError(
                f"no registry.sqlite3 in {self.root} or its parents",
                "give all of visit, filter, raft and sensor",
            )
        try:
            url = f"file:{quote(os.fsencode(path))}?mode=ro"
            with contextlib.closing(sqlite3.connect(url, uri=True)) as registry:
                rows = registry.execute(query, list(known.values())).fetchall()
            return sorted(DataId(int(visit), str(name), str(r), str(s)) for visit, name, r, s in rows)
        except sqlite3.Error as error:
            raise RepositoryError(f"cannot read the registry {path}: {error}") from None
        except (UsageError, TypeError, ValueError) as error:
            raise RepositoryError(f"the registry {path} holds an impossible data id: {error}") from None

    def _registry(self) -> Path | None:
        candidates = (folder / "registry.sqlite3" for folder in self.chain)
        return next((path for path in candidates if path.is_file()), None)


def create_output(root: Path, parent: Path) -> None:
    """Make an output repository: its folder, and the link ``_parent`` to the input repository.

    Parameters
    ----------
    root : `pathlib.Path`
        Made with its parents if missing. If it is the input repository itself, nothing is done.
    parent : `pathlib.Path`
        Root of the input repository.

    Raises
    ------
    OutputError
        If the folder cannot be made, or belongs to another input repository.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if root.resolve() == parent.resolve():
            return
        link = root / "_parent"
        with contextlib.suppress(FileExistsError):
            link.symlink_to(parent.resolve())
        if link.resolve() != parent.resolve():
            raise OutputError(
                f"Output repository path {str(link.resolve())!r} already exists and differs from input "
                f"repository path {str(parent.resolve())!r}",
                "choose another output",
            )
    except OSError as error:
        kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else OutputError
        raise kind(f"cannot make the output repository {root}: {error.strerror}") from None


def _chain(root: Path) -> Iterator[Path]:
    folder = root.resolve()
    seen: list[Path] = []
    while folder not in seen:
        if len(seen) == _LONGEST_CHAIN:
            raise RepositoryError(f"{root} has more than {_LONGEST_CHAIN} parents")
        seen.append(folder)
        yield folder
        parent = folder / "_parent"
        if not parent.is_dir():
            if parent.is_symlink():
                raise RepositoryError(f"{parent} points to {parent.readlink()}, which is not a folder")
            return
        folder = parent.resolve()
    raise RepositoryError(f"the _parent links of {root} go round in a circle at {folder}")


def _read_mapper(chain: tuple[Path, ...]) -> str:
    for folder in chain:
        path = folder / "_mapper"
        if path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                mapper = file.readline(1024).strip()
            if mapper.rpartition(".")[2] != _MAPPER:
                raise RepositoryError(f"{path} names the mapper {mapper!r}", f"only {_MAPPER} is understood")
            return mapper
    raise RepositoryError(
        f"no _mapper in {chain[0]} or its parents",
        "give the root of a Gen2 repository (the folder with calexp/)",
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
