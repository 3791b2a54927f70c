# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in for the report: a summary and an empty picture."""

import json
import sys
from pathlib import Path

SUMMARY = {
    "noise_ratio": 1.002,
    "lag1_correlation": 0.011,
    "kernel": {"sum": 1.034, "candidates": 87, "rejected": 12},
    "sources": {"positive": 34, "negative": 20, "dipole": 9, "flagged": 12, "total": 63},
    "convolved": "template",
    "residual_chi2": 1.04,
}
assert sys.argv[sys.argv.index("--prefix") + 1] == "-"
if not sys.stdin.readline():
    sys.exit()
Path(sys.argv[1], "summary.json").write_text(json.dumps(SUMMARY))
Path(sys.argv[1], "picture.png").write_bytes(b"")
