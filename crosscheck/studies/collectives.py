"""The collectives of a compiled program and the loops around them, read from the text of the program.

A collective in a loop over time costs at every step, and every device waits there for the slowest one. The compiler
decides where a collective is, not the Python code. Therefore the compiled text is read. It is a list of computations,
each a header and one instruction per line. An instruction names the computations that it runs (``body=``, ``calls=``,
``to_apply=``, ...), and these are followed from the entry on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

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
_HEADER = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.*?) (?P<operation>[a-z][\w\-]*)\(")
_RUNS = re.compile(r"([\w\-]+)=(%?[\w.\-]+|\{%?[\w.\-]+(?:, ?%?[\w.\-]+)*\})")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_DEVICES = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")
_SOURCE = re.compile(r'op_name="([^"]*)"')
_Computations: TypeAlias = dict[str, list[re.Match[str]]]  # the instructions of each by its name


@dataclass(frozen=True)
class Collective:
    """One place in the program at which devices wait for each other.

    Attributes:
      operation: one of ``OPERATIONS``. A pair of -start and -done counts once.
      shape: the shape of its result on each device, as XLA writes it without layouts: ``f32[8,64]``, or a tuple.
      loops: the trip counts of the loops around it, outermost first; None for one that XLA does not know.
      source: the JAX operation that it came from, such as ``jit(f)/transpose(jvp())/dot_general``; "" if unknown.
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
      compiled: ``jax.jit(f).lower(*arguments).compile()``, with arguments placed as in the real run, or its text.
        Compile on the platform of the real run: each compiler moves collectives by its own rules.

    Returns:
      A list of :class:`Collective`. ``[c for c in found if c.loops]`` are those inside loops. A computation that
      runs from two places counts twice.

    Raises:
      TypeError: ``compiled`` has no text.
      ValueError: the text is no compiled program, or one for a single device, which has no collectives.
    """
    text = compiled if isinstance(compiled, str) else _text(compiled)
    computations, entry = _read(text)
    return list(_walk(computations, entry, ()))


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


def _read(text: str) -> tuple[_Computations, str]:
    """Return the instructions of each computation by its name, and the name of the first to run."""
    title = text.partition("\n")[0]
    if "is_scheduled=true" not in title:
        raise ValueError(
            "compiled must be the text of a compiled program, which starts with 'HloModule ..., is_scheduled=true'; "
            f"got {title[:60]!r}. A lowered program has no collectives yet: write .lower(...).compile()."
        )
    if all(int(number) == 1 for number in _DEVICES.findall(title)):
        raise ValueError(
            "compiled is a program for one device, so it has no collectives whatever the function is. Compile it for "
            "arguments that lie on a mesh of several, by jax.device_put(x, NamedSharding(mesh, P('data')))."
        )
    computations: _Computations = {}
    entry, current = "", ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = header["name"]
            computations[current] = []
            entry = current if header["entry"] else entry
        elif current and (found := _INSTRUCTION.match(line)):
            computations[current].append(found)
    if not entry:
        raise ValueError("compiled must hold an ENTRY computation; got a text that is cut short or is no HLO.")
    return computations, entry


def _walk(computations: _Computations, name: str, loops: tuple[int | None, ...]) -> Iterator[Collective]:
    for instruction in computations[name]:
        inside, line = loops, instruction.string
        if instruction["operation"] == "while":
            trips = _TRIPS.search(line)
            inside = (*loops, int(trips[1]) if trips else None)
        operation = instruction["operation"].removesuffix("-start")
        if operation in OPERATIONS:
            source = _SOURCE.search(line)
            yield Collective(operation, _plain(instruction["shape"]), loops, source[1] if source else "")
        if not operation.endswith(("-update", "-done")):  # their -start names the same computations
            for called in filter(computations.__contains__, _named(line)):
                yield from _walk(computations, called, inside)


def _named(line: str) -> Iterator[str]:
    """Return the names in the attributes of an instruction; those of computations are what it runs."""
    for attribute, names in _RUNS.findall(re.sub(r'"[^"]*"', "", line)):
        if attribute != "control-predecessors":  # it names instructions, which may have the names of computations
            yield from re.findall(r"[\w.\-]+", names)


def _plain(shape: str) -> str:
    """Remove layouts and comments: (f32[16,3]{1,0}, /*index=1*/f32[16]{0}) becomes (f32[16,3], f32[16])."""
    return re.sub(r"\{[^{}]*\}|/\*.*?\*/", "", shape)
