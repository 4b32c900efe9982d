"""XLA's options for programs that run only once or twice, as in tests: little time for optimizations.

The compiled graph and its results stay the same. The machine code is simpler. With TESTS_COMPILE=as-for-users, as in
`make test-all`, there are no such options, and XLA compiles as for a user.
"""

from __future__ import annotations

import os

import jaxlib

OPTIONS = {
    "xla_backend_optimization_level": 0,  # LLVM's
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,  # the other cores run other tests
}
if jaxlib.__version__.startswith("0.10."):  # later versions lack it, and an unknown option ends the process
    OPTIONS["xla_cpu_use_fusion_emitters"] = False  # otherwise most of the time goes to MLIR
AS_FOR_USERS = os.environ.get("TESTS_COMPILE") == "as-for-users" or os.environ.get("JAX_PLATFORMS", "cpu") != "cpu"
# The instruction set of `make test-isa`, for processes that a test starts.
_GIVEN = os.environ.get("XLA_FLAGS", "").split()
AS_USERS_COMPILE = " ".join(flag for flag in _GIVEN if flag.startswith("--xla_cpu_max_isa="))
FAST_COMPILE = "" if AS_FOR_USERS else " ".join(f"--{name}={str(value).lower()}" for name, value in OPTIONS.items())
FLAGS = f"{AS_USERS_COMPILE} {FAST_COMPILE}".strip()
