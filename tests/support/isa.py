"""Runs tests under several instruction sets of x86: `make test-isa`.

torch takes its products from MKL and oneDNN, XLA:CPU takes some from oneDNN, and these choose code by processor. So
another machine adds in another order, and results differ in their last digits. This confines the libraries to what an
older processor has, which a newer one can run too. Tests marked `isa` are those that such digits could decide.

    python -m tests.support.isa                      the tests marked isa, and the standard cross-check
    python -m tests.support.isa tests/jax_lstm       these tests instead, all of them; options of pytest are passed on

`TESTS_ISA=AVX2` runs one of the instruction sets only. On a processor that is not x86 they are all the same.
"""

from __future__ import annotations

import os
import subprocess
import sys

SETS = {  # what each library calls it, and how many threads it gets
    # Not XLA's own code: confined to SSE4_2 it cannot convert float16 ("Symbols not found: [ __truncsfhf2 ]").
    "SSE4": ({"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}, None, 1),
    "AVX2": ({"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}, "AVX2", 2),
    "own": ({}, None, 2),
}
MARKED = ["-m", "isa and not slow", "-n", "auto", "--dist", "loadfile"]


def environment(name: str) -> dict[str, str]:
    """The variables of this process, and those that confine the libraries to an instruction set."""
    chosen, of_xla, threads = SETS[name]
    flags = os.environ.get("XLA_FLAGS", "") + (f" --xla_cpu_max_isa={of_xla}" if of_xla else "")
    return os.environ | chosen | {"XLA_FLAGS": flags.strip(), "OMP_NUM_THREADS": str(threads)}


def main(arguments: list[str]) -> int:
    """Run everything under each instruction set; 0 if all of it passed."""
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
