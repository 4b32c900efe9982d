"""Tests measure the peak memory of one program, independent of the process that started it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import ROOT

MEASURED_BY_A_LARGE_PROCESS = """
import subprocess, sys
large = bytearray(400_000_000)
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""
OWN_PEAK = "from tests.support.memory import own_peak; print(own_peak())"
HOLDS = "large = b'1' * 200_000_000"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell the peak of one program")
def test_a_process_does_not_measure_the_one_that_started_it():
    of_a_child = ["-m", "tests.support.memory", sys.executable, "-c", HOLDS]
    for command, low, high in ((["-c", OWN_PEAK], 1e6, 1e8), (of_a_child, 2e8, 3e8)):
        large = [sys.executable, "-c", MEASURED_BY_A_LARGE_PROCESS, sys.executable, *command]
        done = subprocess.run(large, cwd=ROOT, capture_output=True, text=True, check=True)
        assert low < int((done.stdout + done.stderr).split()[-1]) < high
