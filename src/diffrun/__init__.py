# SPDX-License-Identifier: BSD-3-Clause
"""diffrun: the containerized, reproducible runner for LSST image differencing."""

from importlib.metadata import version

__version__ = version("diffrun")
