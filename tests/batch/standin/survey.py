# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in for the survey: nothing to say."""

print("{}")
