# SPDX-License-Identifier: BSD-3-Clause
"""Every way a run can fail, its exit code, and what to do next.

    DiffrunError                    1
    ├── UsageError                  2   the command line: an option, an id, a key
    │   └── ConfigError             2   a configuration value, file or site
    ├── RepositoryError             3   a repository, visit or file that is not there
    ├── DataError                   4   a file or an image that cannot be used
    │   ├── NoOverlapError          4   the two visits share no sky
    │   └── NoStarsError            4   too few stars to match the two images
    ├── OutputError                 5   the output cannot be written, or is not ours to replace
    │   └── DiskFullError           5   no room left
    ├── VerificationError           6   a finished run is not what its record says, or cannot be made again
    ├── BatchError                  7   the batch system refuses, or a job ended without its run folder
    └── AdviceError                 8   the advice before the work says stop

The launcher ends with these codes. ``imageDifference.py`` ends with 2 for a bad command line, 1 when it
could not start, and otherwise with the number of data ids that failed (at most 127); ``docs/exit-codes.md``
is the page for users.
"""

from __future__ import annotations


class DiffrunError(Exception):
    """A failure with one clear line: what is wrong, the value seen, and the remedy.

    Parameters
    ----------
    message : `str`
        The thing and the value that is wrong, without a final stop.
    remedy : `str`, optional
        What the user can do next, without a final stop.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(DiffrunError):
    """The command line asks for something that cannot be understood or honoured."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value, a configuration file or a site file is wrong."""


class RepositoryError(DiffrunError):
    """A repository, a visit or a dataset is not there."""

    exit_code = 3


class DataError(DiffrunError):
    """A file is damaged, or an image holds nothing that can be used."""

    exit_code = 4


class NoOverlapError(DataError):
    """The two visits share no sky."""


class NoStarsError(DataError):
    """Too few stars to match the two images."""


class OutputError(DiffrunError):
    """The output cannot be written, or holds something else."""

    exit_code = 5


class DiskFullError(OutputError):
    """No room is left where the output goes."""


class VerificationError(DiffrunError):
    """A finished run is not what its record says, or making it again gives other bytes."""

    exit_code = 6


class BatchError(DiffrunError):
    """The batch system refuses or does not answer, or a job ended without having made its run folder."""

    exit_code = 7


class AdviceError(DiffrunError):
    """What was looked at before the work is beyond a limit: the two visits, or what this machine has."""

    exit_code = 8
