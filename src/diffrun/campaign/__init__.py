# SPDX-License-Identifier: BSD-3-Clause
"""Very many pairs: which there are, which are done, and what does the rest."""
