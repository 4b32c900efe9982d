"""The package builds with a C++ compiler and without one. Each build downloads what it needs, as pip does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow
LIBRARY = "jax_lstm/_src/native/libjax_lstm_cpu.so"


@pytest.fixture
def tree(tmp_path):
    """Return a copy of the files that git tracks or would track, without build results."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "tree" / name)
    return tmp_path / "tree"


def wheel_of(tree, environment):
    """Build a wheel and return its name and the names of its files."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tree / "out"), str(tree)]
    built = subprocess.run(build, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tree / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return wheel.name, archive.namelist()


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler g++")
def test_with_a_compiler_one_wheel_holds_the_kernels_for_every_python(tree):
    name, files = wheel_of(tree, os.environ)
    assert "-py3-none-" in name
    assert not name.endswith("-any.whl")
    assert LIBRARY in files
    assert not [file for file in files if file.endswith((".cc", ".h"))]


@pytest.mark.parametrize("compiler", ["none", "broken"])
def test_without_a_working_compiler_the_wheel_is_for_every_platform(compiler, tree, tmp_path):
    if compiler == "none":
        path = str(tmp_path / "empty")
        environment = {key: value for key, value in os.environ.items() if key not in ("CC", "CXX")} | {"PATH": path}
    else:
        environment = os.environ | {"CC": "false", "CXX": "false"}
    name, files = wheel_of(tree, environment)
    assert name.endswith("-py3-none-any.whl")
    assert LIBRARY not in files
    assert "jax_lstm/_src/cpu_library.py" in files
