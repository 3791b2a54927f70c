# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in for the survey: one good answer, and a refusal of visit 195529."""

import json
import sys

if "visit=195529" in sys.argv[: sys.argv.index("--template")]:
    sys.exit(print("calexp of 195529 is damaged; get a whole copy", file=sys.stderr) or 4)

SIDE = {"visit": 230, "filter": "r", "raft": "2,2", "sensor": "1,1", "fwhm_arcsec": 0.8, "mjd": 59580.1}
print(
    json.dumps(
        {
            "science": SIDE,
            "template": {**SIDE, "visit": 250, "filter": "g", "fwhm_arcsec": 0.9},
            "overlap_fraction": 0.95,
            "better": [{"visit": 195529, "filter": "r", "fwhm_arcsec": 0.6, "overlap_fraction": 0.93}],
            "warnings": ["the bands differ: science r, template g"],
        }
    )
)
