"""Runs tests under several instruction sets of x86: `make test-isa`.

torch takes its products from MKL and oneDNN, and XLA:CPU takes some from oneDNN. These libraries choose their code by
processor. So the order of sums depends on the machine, and results differ in their last digits. This command limits the
libraries to the instruction set of an older processor. A test is marked `isa` if such digits could change its result.

    python -m tests.support.isa                  the tests marked isa, and the standard cross-check
    python -m tests.support.isa tests/jax_lstm   these tests instead; pytest gets all arguments

`TESTS_ISA=AVX2` runs only one of the instruction sets. On a processor that is not x86 all instruction sets give the
same run.
"""

from __future__ import annotations

import os
import subprocess
import sys

SETS = {  # variables of oneDNN, torch and our kernels; XLA's name of the set; threads
    # No limit for XLA's own code: with SSE4_2 it cannot convert float16 ("Symbols not found: [ __truncsfhf2 ]").
    "SSE4": ({"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "JAX_LSTM_VECTOR_BYTES": "16"}, None, 1),
    "AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "JAX_LSTM_VECTOR_BYTES": "32"}, "AVX2", 2),
    "own": ({}, None, 2),
}
MARKED = ["-m", "isa and not slow", "-n", "auto", "--dist", "loadfile"]


def environment(name: str) -> dict[str, str]:
    """Return the environment of this process, with variables that limit the libraries to an instruction set."""
    variables, xla_name, threads = SETS[name]
    flags = os.environ.get("XLA_FLAGS", "") + (f" --xla_cpu_max_isa={xla_name}" if xla_name else "")
    return os.environ | variables | {"XLA_FLAGS": flags.strip(), "OMP_NUM_THREADS": str(threads)}


def main(arguments: list[str]) -> int:
    """Run everything under each instruction set. Return 0 if everything passed."""
    tests = [[sys.executable, "-m", "pytest", *(arguments or MARKED)]]
    commands = tests if arguments else [*tests, [sys.executable, "-m", "crosscheck"]]
    failed = []
    for name in os.environ.get("TESTS_ISA", "").split() or SETS:
        for command in commands:
            print(f"== {name}: {' '.join(command[2:])}", flush=True)
            if subprocess.run(command, env=environment(name), check=False).returncode:
                failed.append(f"{name}: {' '.join(command[2:])}")
    print("\n".join(["failed:", *failed]) if failed else "passed under each instruction set")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
