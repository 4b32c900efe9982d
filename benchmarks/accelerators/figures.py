"""What the text of a compiled program says about its cost: operations and cycles per loop, and memory.

An operation is an instruction that the device runs by itself, such as a fusion or a product. An instruction that only
names, counts or waits is not an operation. On a GPU an operation is a kernel. TPU's compiler estimates the cycles of
most operations. The sum over all trips compares two programs of one compiler. It is not a time: it leaves out transfers
that overlap, and the estimates were never compared with a device here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crosscheck.studies.compiled.program_text import Instruction, Program, plain_shape, read_program

# These instructions name or order values, or wait for what another instruction has started.
FREE = frozenset(
    "parameter get-tuple-element tuple bitcast constant after-all opt-barrier call conditional while".split()  # noqa: SIM905
)
MOVES = ("copy", "copy-start", "transpose")
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_SCALAR = re.compile(r"(s32|u32|pred)\[\]")
_DIMENSIONS = re.compile(r"\[([\d,]*)\]")


@dataclass(frozen=True)
class Loop:
    """A loop of a compiled program, without the loops inside of it.

    Attributes:
      trips: how often the loop and each loop around it run, outermost first; None if the text does not say it.
      operations: in its body.
      cycles: of its body, estimated; 0 if the compiler estimates none.
      moved: the sorted dimensions of each array that its body copies or transposes.
    """

    trips: tuple[int | None, ...]
    operations: int
    cycles: int
    moved: tuple[tuple[int, ...], ...]

    @property
    def runs(self) -> int:
        """How often the body runs in all. An unknown number counts as 1."""
        return math.prod(trips or 1 for trips in self.trips)


@dataclass(frozen=True)
class Figures:
    """The figures of a compiled program. Memory is in bytes, per device.

    Attributes:
      loops: all loops, in the order of the text, an outer loop before its inner ones.
      cycles: of the whole program, estimated; 0 if the compiler estimates none.
      temporary: what the program allocates besides its arguments and results.
      peak: the most memory in use at one time, arguments and results included.
    """

    loops: tuple[Loop, ...]
    cycles: int
    temporary: int
    peak: int

    @property
    def innermost(self) -> list[Loop]:
        """The loops over time steps: those that hold no other loop."""
        inner = zip(self.loops, (*self.loops[1:], None), strict=True)
        return [loop for loop, after in inner if after is None or len(after.trips) <= len(loop.trips)]


def figures_of(compiled: Any) -> Figures:
    """Return the figures of what ``compile_for`` returned."""
    program = read_program(compiled)
    loops = tuple(_loops(program, program.entry, ()))
    outside = _cycles(program, program.entry)
    memory = compiled.memory_analysis()
    return Figures(
        loops,
        outside + sum(loop.runs * loop.cycles for loop in loops),
        memory.temp_size_in_bytes,
        memory.peak_memory_in_bytes,
    )


def _loops(program: Program, name: str, around: tuple[int | None, ...]) -> Iterator[Loop]:
    for instruction in program.computations[name]:
        if instruction.operation == "while":
            (body,) = (called for attribute, called in program.called(instruction) if attribute == "body")
            trips = (*around, program.trips(instruction))
            yield Loop(
                trips,
                sum(1 for _ in _operations(program, body)),
                _cycles(program, body),
                tuple(_moved(program, body)),
            )
            yield from _loops(program, body, trips)
        elif instruction.operation in ("call", "conditional"):
            for _, called in program.called(instruction):
                yield from _loops(program, called, around)


def _operations(program: Program, name: str) -> Iterator[Instruction]:
    """Yield the operations of a computation and of the computations that it calls, without those of its loops."""
    for instruction in program.computations[name]:
        operation = instruction.operation
        if operation in ("call", "conditional"):
            for _, called in program.called(instruction):
                yield from _operations(program, called)
        elif operation not in FREE and not operation.endswith(("-done", "-update")) and not _is_scalar(instruction):
            yield instruction


def _is_scalar(instruction: Instruction) -> bool:
    return _SCALAR.fullmatch(plain_shape(instruction.shape)) is not None


def _cycles(program: Program, name: str) -> int:
    return sum(int(n) for each in _operations(program, name) for n in _CYCLES.findall(each.line))


def _inside(program: Program, name: str) -> Iterator[Instruction]:
    """Yield the operations of a computation, each with all instructions inside it."""
    for instruction in _operations(program, name):
        yield instruction
        for _, called in program.called(instruction):
            yield from program.reached(called)


def _moved(program: Program, name: str) -> Iterator[tuple[int, ...]]:
    for instruction in _inside(program, name):
        if instruction.operation in MOVES and (found := _DIMENSIONS.search(instruction.shape)):
            yield tuple(sorted(int(n) for n in found[1].split(",") if n))
