# SPDX-License-Identifier: BSD-3-Clause
"""The stand-in for the survey: nothing to say, but for the cost that lies beside the repository."""

import json
import sys
from pathlib import Path

path = next((Path(word).parent / "cost" for word in sys.argv[1:] if word.endswith("/repo")), Path("cost"))
print(json.dumps({"cost": json.loads(path.read_text())} if path.exists() else {}))
