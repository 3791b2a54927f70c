# SPDX-License-Identifier: BSD-3-Clause
"""diffrun: the containerized, reproducible runner for LSST image differencing."""

__version__ = "0.1.0"
