"""The compiled kernels for a CPU: the file beside this module, loaded when a call first asks for it."""

from __future__ import annotations

import ctypes
import functools
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax

FILE = Path(__file__).with_name("native") / "libjax_lstm_cpu.so"
TARGETS = tuple(f"jax_lstm_{loop}_{dtype}" for loop in ("forward", "backward") for dtype in ("float32", "float64"))
NOT_BUILT = "its compiled file was not built when jax-lstm was installed (no C++17 compiler, or it failed)"
INTERFACE = 1  # of the functions in the file, see handlers.cc


class Library(NamedTuple):
    """The compiled kernels, or the reason why they are not here."""

    functions: Any
    missing: str | None


@functools.cache
def load_library() -> Library:
    """Load the compiled kernels and make them known to XLA, once per process.

    A file that exists and does not load causes one warning. Every call then runs scan.
    """
    if not FILE.exists():
        return Library(None, NOT_BUILT)
    try:
        functions = ctypes.CDLL(str(FILE))
        for name, arguments in (("forward_scratch", 5), ("backward_scratch", 5), ("interface", 0), ("vector_bytes", 0)):
            function = getattr(functions, f"jax_lstm_{name}")
            function.restype, function.argtypes = ctypes.c_int64, [ctypes.c_int64] * arguments
        if (found := functions.jax_lstm_interface()) != INTERFACE:
            raise ValueError(f"it has interface {found}, and this release needs {INTERFACE}")
        for target in TARGETS:
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(functions, target)), platform="cpu")
    except Exception as error:  # of the loader, of a missing name or of XLA; none of them may stop a call
        missing = f"its compiled file does not load: {' '.join(str(error).split())}"
        warnings.warn(f"jax_lstm runs its loops as scan, since {missing}", RuntimeWarning, stacklevel=2)
        return Library(None, missing)
    return Library(functions, None)
