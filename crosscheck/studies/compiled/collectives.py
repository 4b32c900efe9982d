"""The collectives of a compiled program and the loops around them, read from the text of the program.

A collective in a loop over time costs at every step, and every device waits there for the slowest one. The compiler
decides where a collective is, not the Python code. Therefore the compiled text is read, from its entry on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crosscheck.studies.compiled.program_text import Program, plain_shape, read_program

OPERATIONS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
    "send",
)
_DEVICES = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")


@dataclass(frozen=True)
class Collective:
    """One place in the program at which devices wait for each other.

    Attributes:
      operation: "all-gather", "all-reduce", "all-to-all", "collective-broadcast", "collective-permute",
        "ragged-all-to-all", "reduce-scatter" or "send". A pair of -start and -done counts once.
      shape: the shape of its result on each device, as XLA writes it without layouts: `f32[8,64]`, or a tuple.
      loops: the trip counts of the loops around it, outermost first, with None for a count that XLA does not know.
      source: the JAX operation that it came from, such as `jit(f)/transpose(jvp())/dot_general`; "" if unknown.

    Examples:
      >>> import crosscheck
      >>> print(crosscheck.Collective("all-reduce", "f32[8,64]", loops=(100,), source="jit(f)/dot_general"))
      all-reduce f32[8,64] in a loop, 100 times: jit(f)/dot_general
    """

    operation: str
    shape: str
    loops: tuple[int | None, ...]
    source: str

    def __str__(self) -> str:
        nest = " x ".join("?" if trips is None else str(trips) for trips in self.loops)
        return f"{self.operation} {self.shape} {f'in a loop, {nest} times' if self.loops else 'once'}: {self.source}"


def find_collectives(compiled: Any) -> list[Collective]:
    """Return the collectives of a program that was compiled for several devices, in the order of its text.

    Args:
      compiled: `jax.jit(f).lower(*arguments).compile()`, with arguments placed as in the real run, or its text. Compile
        on the platform of the real run: each compiler moves collectives by its own rules.

    Returns:
      The collectives. `[c for c in found if c.loops]` are those inside loops. A computation that runs from two places
      counts twice.

    Raises:
      TypeError: `compiled` has no text.
      ValueError: the text is no compiled program, or one for a single device, which has no collectives.

    Examples:
      The text is what `compiled.as_text()` returns for a program on two devices, shortened.

      >>> import crosscheck
      >>> text = '''HloModule jit_f, is_scheduled=true, num_partitions=2
      ... ENTRY %main (x: f32[8,4]) -> f32[8,4] {
      ...   %x = f32[8,4]{1,0} parameter(0)
      ...   ROOT %sum = f32[8,4]{1,0} all-reduce(%x), to_apply=%add, metadata={op_name="jit(f)/dot_general"}
      ... }'''
      >>> [str(collective) for collective in crosscheck.find_collectives(text)]
      ['all-reduce f32[8,4] once: jit(f)/dot_general']
    """
    program = read_program(compiled)
    if all(int(number) == 1 for number in _DEVICES.findall(program.title)):
        raise ValueError(
            "compiled is a program for one device, so it has no collectives whatever the function is. Compile it for "
            "arguments that lie on a mesh of several, by jax.device_put(x, NamedSharding(mesh, P('data')))."
        )
    return list(_walk(program, program.entry, ()))


def _walk(program: Program, name: str, loops: tuple[int | None, ...]) -> Iterator[Collective]:
    for instruction in program.computations[name]:
        inside = loops
        if instruction.operation == "while":
            inside = (*loops, program.trips(instruction))
        operation = instruction.operation.removesuffix("-start")
        if operation in OPERATIONS:
            yield Collective(operation, plain_shape(instruction.shape), loops, instruction.source)
        if not operation.endswith(("-update", "-done")):  # their -start names the same computations
            for _, called in program.called(instruction):
                yield from _walk(program, called, inside)
