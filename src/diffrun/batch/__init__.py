# SPDX-License-Identifier: BSD-3-Clause
"""Batch systems: the same run as a Slurm job."""
