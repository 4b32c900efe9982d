"""The kernels have the count of instructions in the committed table, with the same compiler."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.accelerators.kernels import from_content
from benchmarks.accelerators.targets import compiler_of, missing
from tests import ROOT

CONTENT = json.loads((ROOT / "benchmarks/results/accelerators/kernels.json").read_text())
SHAPE = "128,32,128,256"
SLACK = 1.02  # difference of two runs of the compiler


@pytest.mark.slow
@pytest.mark.parametrize("target", ["v5e", "v6e"])
def test_the_kernels_issue_no_more_bundles_than_the_table_says(target, tmp_path):
    if reason := missing(target):
        pytest.skip(f"{target}: {reason}")
    package, version = compiler_of(target).split(" ")
    if CONTENT["versions"][package] != version:
        pytest.skip(f"the table is for {package} {CONTENT['versions'][package]}, and {version} is installed")
    options = ["--target", target, "--shape", SHAPE, "--work", "forward", "--json", str(tmp_path / "kernels.json")]
    subprocess.run([sys.executable, "-m", "benchmarks.accelerators.kernels", *options], cwd=ROOT, check=True)
    (got,) = from_content(json.loads((tmp_path / "kernels.json").read_text()))
    (row,) = (row for row in from_content(CONTENT) if (row.target, row.kind, row.shape) == (target, "forward", SHAPE))
    assert got.pallas.bundles <= SLACK * row.pallas.bundles
