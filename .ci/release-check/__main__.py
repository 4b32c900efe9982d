"""`python .ci/release-check` checks a release; release.py says how."""

import sys

from release import main

if __name__ == "__main__":
    sys.exit(main())
