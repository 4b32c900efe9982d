"""What computes here: the processor by its maker's name."""

from __future__ import annotations

import platform


def processor() -> str:
    """Return the processor's name, or "unknown"."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"
