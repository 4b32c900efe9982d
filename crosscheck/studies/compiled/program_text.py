"""The text of a compiled program as computations and instructions.

The text is a list of computations, each a header and one instruction per line. An instruction names the computations
that it runs (``body=``, ``calls=``, ``to_apply=``, ...).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

_HEADER = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.*?) (?P<operation>[a-z][\w\-]*)\(")
_RUNS = re.compile(r"([\w\-]+)=(%?[\w.\-]+|\{%?[\w.\-]+(?:, ?%?[\w.\-]+)*\})")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BOUND = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Instruction(NamedTuple):
    """One line of a program: its name, the shape of its result with layouts, its operation, and the line itself."""

    name: str
    shape: str
    operation: str
    line: str

    @property
    def source(self) -> str:
        """The JAX operation that it came from, such as ``jit(f)/transpose(jvp())/dot_general``; "" if unknown."""
        found = _SOURCE.search(self.line)
        return found[1] if found else ""


Computations: TypeAlias = dict[str, list[Instruction]]


class Program(NamedTuple):
    """The instructions of each computation by its name, the name of the first to run, and the title line."""

    computations: Computations
    entry: str
    title: str

    def called(self, instruction: Instruction) -> Iterator[tuple[str, str]]:
        """Yield the computations that an instruction runs, as (attribute, name)."""
        for attribute, names in _RUNS.findall(re.sub(r'"[^"]*"', "", instruction.line)):
            if attribute != "control-predecessors":  # it names instructions, which may have the names of computations
                found = re.findall(r"[\w.\-]+", names)
                yield from ((attribute, name) for name in found if name in self.computations)

    def reached(self, name: str) -> Iterator[Instruction]:
        """Yield the instructions of a computation, and of all that it runs."""
        for instruction in self.computations[name]:
            yield instruction
            for _, inner in self.called(instruction):
                yield from self.reached(inner)

    def trips(self, loop: Instruction) -> int | None:
        """Return how often a loop runs, or None if the text does not say it.

        A TPU's text has no known_trip_count. There, the condition compares the counter with its only constant.
        """
        if known := _TRIPS.search(loop.line):
            return int(known[1])
        conditions = [name for attribute, name in self.called(loop) if attribute == "condition"]
        constants = {int(n) for name in conditions for each in self.reached(name) for n in _BOUND.findall(each.line)}
        bounds = constants - {0, 1}
        return bounds.pop() if len(bounds) == 1 else None


def read_program(compiled: Any) -> Program:
    """Return the program of ``jax.jit(f).lower(*arguments).compile()``, or of its text.

    Raises:
      TypeError: ``compiled`` has no text.
      ValueError: the text is no compiled program.
    """
    text = compiled if isinstance(compiled, str) else _text(compiled)
    title = text.partition("\n")[0]
    if "is_scheduled=true" not in title:
        raise ValueError(
            "compiled must be the text of a compiled program, which starts with 'HloModule ..., is_scheduled=true'; "
            f"got {title[:60]!r}. A lowered program has no collectives yet: write .lower(...).compile()."
        )
    computations: Computations = {}
    entry, current = "", ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = header["name"]
            computations[current] = []
            entry = current if header["entry"] else entry
        elif current and (found := _INSTRUCTION.match(line)):
            computations[current].append(Instruction(found["name"], found["shape"], found["operation"], line))
    if not entry:
        raise ValueError("compiled must hold an ENTRY computation; got a text that is cut short or is no HLO.")
    return Program(computations, entry, title)


def _text(compiled: Any) -> str:
    if not hasattr(compiled, "as_text"):
        raise TypeError(
            "compiled must be what jax.jit(f).lower(*arguments).compile() gives, or its as_text(); "
            f"got {type(compiled).__name__}."
        )
    text = compiled.as_text()
    if not isinstance(text, str):
        raise TypeError("compiled has no text: its as_text() gave None. Compile it here instead of loading it.")
    return text


def plain_shape(shape: str) -> str:
    """Remove layouts and comments: (f32[16,3]{1,0}, /*index=1*/f32[16]{0}) becomes (f32[16,3], f32[16])."""
    return re.sub(r"\{[^{}]*\}|/\*.*?\*/", "", shape)
