#!/opt/diffrun/python/bin/python -I
# SPDX-License-Identifier: BSD-3-Clause
"""The engine under the name that the contract gives it."""

from diffrun.engine.__main__ import run

if __name__ == "__main__":
    run()
