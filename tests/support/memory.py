"""The most memory that a process has held, whatever process started it.

A process that becomes another program keeps the peak of the process that it was forked from, as far as getrusage tells.
Tests that are run by a large process would measure that one. So a process reads its own peak from the system:

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
    """Return the most bytes that this process has held, on Linux only since its program began."""
    if STATUS.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())):
        return 1024 * int(found[1])
    return UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_of_children() -> int:
    """Return the most bytes of a child that has ended, which are at least what this process held as it forked."""
    return UNIT * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> int:
    """Run a program, and print its peak as the last line of stderr. Return its exit code."""
    code = subprocess.run(sys.argv[1:], check=False).returncode
    print(peak_of_children(), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
