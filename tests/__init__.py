"""The tests. Folders mirror the packages. Shared code is in `tests.support`."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
