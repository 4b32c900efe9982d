"""The cost of a check of an encoder with 12.4 million parameters."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.requirements import need

need("torch")


def cost(what):
    """Return seconds of all threads, and bytes, measured in a separate process."""
    command = [sys.executable, "-m", "tests.support.encoder", what]
    seconds, memory = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(seconds), int(memory)


@pytest.mark.slow
def test_an_encoder_is_checked_in_40_seconds_and_six_times_the_memory_of_its_programs():
    (_, own), (seconds, memory) = cost("programs"), cost("check")
    assert seconds < 80  # 40 on two cores
    assert memory < min(6 * own, 2.5e9)
