#!/opt/diffrun/python/bin/python -I
# SPDX-License-Identifier: BSD-3-Clause
"""The program that makes a plain image a calexp, as the image has it."""

import sys

from diffrun.engine.makecalexp.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
