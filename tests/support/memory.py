"""The peak memory of a process, independent of the process that started it.

If a forked process starts another program, getrusage still counts the peak of the process that it was forked from.
Tests in a large process would measure that process. So a process reads its own peak from the system:

    python -m tests.support.memory PROGRAM ARGUMENT ...

runs a program as a child of a process that is small, and prints the peak of the program and its children on stderr.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
UNIT = 1 if sys.platform == "darwin" else 1024  # of getrusage, in bytes


def own_peak() -> int:
    """Return the most bytes that this process has held. On Linux they count from the start of its program."""
    if STATUS.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())):
        return 1024 * int(found[1])
    return UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_of_children() -> int:
    """Return the most bytes of an ended child. They are at least what this process held when it forked."""
    return UNIT * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> int:
    """Run a program, and print its peak as the last line of stderr. Return its exit code."""
    code = subprocess.run(sys.argv[1:], check=False).returncode
    print(peak_of_children(), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
