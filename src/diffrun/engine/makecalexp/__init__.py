# SPDX-License-Identifier: BSD-3-Clause
"""A plain FITS image made what ``processCcd`` would have left: calexp, background and ``src``.

Read `diffrun.engine.makecalexp.make` first: it is the order of the stages.
"""
