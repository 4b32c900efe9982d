"""The tests. Folders mirror the packages; what tests share is in `tests.support`."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
