# SPDX-License-Identifier: BSD-3-Clause
"""A program that keeps the engine's contract with no pixels, and fails in the way it is told to.

It takes the place of ``diffrun.engine`` in a copy of the package: what the launcher does with a program
that dies, lies or hangs is tested with it.
"""
