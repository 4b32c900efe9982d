"""Waits for other processes until a condition holds, with a deadline that only a hang can reach."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 600  # seconds


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds. Raises AssertionError after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {PATIENCE} seconds"
        time.sleep(0.05)
