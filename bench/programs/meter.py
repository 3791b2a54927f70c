# SPDX-License-Identifier: BSD-3-Clause
"""Run a command and write what it used: meter.py FILE CPU-LIMIT COMMAND [WORD ...].

A process of its own because a child's peak of memory begins with that of the process it was forked from.
"""

import json
import os
import resource
import sys
import time

file, limit, *command = sys.argv[1:]
began = time.monotonic()
child = os.fork()
if not child:
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"Error: {command[0]}: {error.strerror}\n")
        os._exit(127)
_, status, used = os.wait4(child, 0)
with open(file, "w", encoding="ascii") as stream:  # noqa: PTH123 (the less is imported, the smaller it is)
    unit = 1 if sys.platform == "darwin" else 1024
    json.dump(
        {
            "cpu": used.ru_utime + used.ru_stime,
            "wall": time.monotonic() - began,
            "memory": used.ru_maxrss * unit,
            "status": os.waitstatus_to_exitcode(status),
        },
        stream,
    )
