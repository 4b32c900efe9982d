"""The compiled kernels under the compiler's sanitizers. tests/native/exercise.cc runs them without XLA and Python."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

import pytest

from tests import ROOT

SOURCES = ROOT / "jax_lstm/_src/native"
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-O1", "-g", "-ffp-contract=fast", "-Wno-psabi", f"-I{SOURCES}", "-fno-omit-frame-pointer"]
WIDTHS = {"16": ("baseline", [])}
if platform.machine() in ("x86_64", "AMD64"):
    WIDTHS["32"] = ("avx2", ["-mavx2", "-mfma"])
    WIDTHS["64"] = ("avx512", ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"there is no C++ compiler {COMPILER!r}"),
]


def compile_with(sanitizer, folder):
    flags = [*FLAGS, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    objects = []
    for width, (name, more) in WIDTHS.items():
        objects.append(folder / f"{name}.o")
        macros = [f"-DJAX_LSTM_BYTES={width}", f"-DJAX_LSTM_WIDTH={name}"]
        subprocess.run([COMPILER, *flags, *macros, *more, "-c", SOURCES / "width.cc", "-o", objects[-1]], check=True)
    program = folder / "exercise"
    sources = [SOURCES / "widths.cc", ROOT / "tests/native/exercise.cc"]
    subprocess.run([COMPILER, *flags, *sources, *objects, "-o", program, "-lpthread"], check=True)
    return program


@pytest.mark.parametrize(("sanitizer", "calls"), [("address,undefined", 200), ("thread", 100)])
def test_random_calls_do_nothing_undefined(sanitizer, calls, tmp_path):
    """Address: no access is outside of an array. Thread: no thread reads what another thread is writing."""
    program = compile_with(sanitizer, tmp_path)
    for width in WIDTHS:  # a processor without these vectors runs the widest that it has
        run = subprocess.run(
            [program, str(calls)],
            env=os.environ | {"JAX_LSTM_VECTOR_BYTES": width},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr + run.stdout
        assert f"{calls} calls" in run.stdout
