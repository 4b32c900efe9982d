"""Reads a pickle without running it: a machine for the opcodes of pickle that can only make plain values.

A pickle is a program. Python's own unpickler imports what the program names and calls it. This machine has neither an
import nor a call: a name becomes a :class:`Global`, and what the program would build of it an :class:`Inert`. A caller
gives a table of the few names that stand for data, such as torch's tensors, each with a function of ours.

Source of the opcodes: ``pickletools``, which also takes the bytes apart. Values that the file shares are shared here.
What is made anew, such as a copy of a list or a text, is paid from a :class:`Budget`. Dictionary keys are flat, since
hashing nested tuples has no end.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OPCODES = 3_000_000
MADE, ITEM = 2**27, 16  # bytes, of which an item of a container takes so many
KEY_LENGTH = 16  # of a tuple that is a dictionary's key
NAME_LENGTH, INTEGER_BITS = 1000, 256  # the longest class that is a class, and the largest state of a random generator
_SCALARS = (str, int, float, bool, bytes, type(None))


class BadPickle(ValueError):
    """The bytes are no pickle, or one that no honest program writes."""


class TooLarge(BadPickle):
    """The pickle is more than is read here."""


@dataclass
class Budget:
    """What all pickles of one file may take: so many opcodes, and so many bytes of copies."""

    opcodes: int = OPCODES
    made: int = MADE

    def step(self) -> None:
        self.opcodes -= 1
        if self.opcodes < 0:
            raise TooLarge(f"it has over {OPCODES:,} opcodes")

    def make(self, size: int) -> None:
        """Pay for ``size`` bytes. Raises TooLarge."""
        self.made -= size
        if self.made < 0:
            raise TooLarge(f"it makes copies of over {MADE:,} bytes")


@dataclass(frozen=True)
class Global:
    """A class or function by its name, "collections.OrderedDict". It was not imported."""

    name: str


@dataclass(eq=False)
class Inert:
    """What a pickle would have made of a class or function. It was not made: this holds what it would be made of.

    ``args`` were to be passed to ``name``, ``state`` to be set, and ``items`` and ``entries`` to be added.
    """

    name: str
    args: Sequence[Any] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)


Make = Callable[[Sequence[Any]], Any]
SetState = Callable[[Any, Any], None]


def read_pickle(
    data: Any,
    known: Mapping[str, Make],
    persistent: Callable[[Any], Any],
    set_state: SetState,
    budget: Budget | None = None,
) -> tuple[Any, int]:
    """Return what the first pickle in ``data`` would give, and the number of bytes that it takes.

    Args:
      data: bytes, or a file that is open for reading.
      known: by name, functions that make a value of the arguments that the pickle would call that name with.
      persistent: makes a value of a persistent id.
      set_state: sets the state of a value that ``known`` or ``persistent`` made and that is no plain container. It
        raises TypeError for any other.
      budget: what the file may still take; None is a whole one.

    Raises:
      BadPickle: an opcode does not fit what came before it, the pickle is cut, or it takes more than the budget.
      ValueError: ``pickletools`` cannot take the bytes apart.
    """
    budget = budget or Budget()
    machine = _Machine(known, persistent, set_state, budget)
    for opcode, argument, position in pickletools.genops(data):
        budget.step()
        if opcode.name == "STOP":
            return machine.pop(), (position or 0) + 1
        try:
            machine.step(opcode.name, argument)
        except (IndexError, KeyError, TypeError, AttributeError) as error:
            raise BadPickle(f"its opcode {opcode.name} at byte {position} does not fit what is before it") from error
    raise BadPickle("it has no end")


class _Machine:
    def __init__(
        self, known: Mapping[str, Make], persistent: Callable[[Any], Any], set_state: SetState, budget: Budget
    ):
        self.known, self.persistent, self.set_state, self.budget = known, persistent, set_state, budget
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > INTEGER_BITS:
                raise TooLarge(f"it has an integer of {argument.bit_length():,} bits")
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name not in _IGNORED:
            _STEPS[name](self, argument)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """Return what came since the last mark."""
        above, self.stack = self.stack, self.marked.pop()
        return above

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def put(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def get(self, place: int) -> None:
        self.stack.append(self.memo[place])

    def tuple_of(self, size: int) -> None:
        if size > len(self.stack):
            raise IndexError
        values = tuple(self.stack[len(self.stack) - size :])
        del self.stack[len(self.stack) - size :]
        self.stack.append(values)

    def extend(self, values: Sequence[Any]) -> None:
        target = self.stack[-1]
        (target.items if isinstance(target, Inert) else _checked(target, list)).extend(values)

    def set_items(self, values: Sequence[Any]) -> None:
        if len(values) % 2:
            raise IndexError
        target = self.stack[-1]
        entries = target.entries if isinstance(target, Inert) else _checked(target, dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            entries[flat_key(key, len(entries))] = value

    def dict_of(self, _: Any) -> None:
        values = self.pop_mark()
        self.stack.append({})
        self.set_items(values)

    def global_from_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(_global(_checked(module, str), _checked(name, str)))

    def make(self, target: Any, args: Any) -> None:
        if not isinstance(target, (Global, Inert)):
            raise TypeError
        maker = self.known.get(target.name) if isinstance(target, Global) else None
        if maker:  # which may copy what it is given
            self.budget.make(sum(map(_size, _checked(args, tuple))))
        self.stack.append(maker(args) if maker else Inert(target.name, _checked(args, tuple)))

    def reduce(self, _: Any) -> None:
        args, target = self.pop(), self.pop()
        self.make(target, args)

    def new_with_keywords(self, _: Any) -> None:
        keywords, args, target = self.pop(), self.pop(), self.pop()
        self.make(target, args)
        if isinstance(made := self.stack[-1], Inert):
            made.state = keywords

    def object_of(self, _: Any) -> None:
        target, *args = self.pop_mark()
        self.make(target, tuple(args))

    def build(self, _: Any) -> None:
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, (dict, list)):  # what Python would set on those is no content of theirs
            self.set_state(target, state)

    def by_id(self, identity: Any) -> None:
        self.stack.append(self.persistent(identity))


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _size(value: Any) -> int:
    """About the bytes of a copy."""
    if isinstance(value, (list, tuple, dict)):
        return ITEM * len(value)
    return len(value) if isinstance(value, (str, bytes, bytearray)) else 0


def _global(module: str, name: str) -> Global:
    if len(module) + len(name) > NAME_LENGTH:
        raise BadPickle("a class has a name without end")
    return Global(f"{module}.{name}")


def flat_key(value: Any, number: int) -> Any:
    """Return a key that hashes in constant time: the value if it is a scalar or a short tuple of such."""
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, tuple) and len(value) <= KEY_LENGTH and all(isinstance(item, _SCALARS) for item in value):
        return value
    return f"<{type(value).__name__}>#{number}"


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
_IGNORED = {"PROTO", "FRAME", "READONLY_BUFFER"}
_STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    "MARK": _Machine.mark,
    "POP": lambda m, _: m.pop() if m.stack else m.pop_mark(),
    "POP_MARK": lambda m, _: m.pop_mark(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "FROZENSET": lambda m, _: m.push(m.pop_mark()),
    "DICT": _Machine.dict_of,
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.pop_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "GLOBAL": lambda m, name: m.push(_global(*name.split(" ", 1))),
    "STACK_GLOBAL": _Machine.global_from_stack,
    "INST": lambda m, name: m.make(_global(*name.split(" ", 1)), tuple(m.pop_mark())),
    "OBJ": _Machine.object_of,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "PERSID": _Machine.by_id,
    "BINPERSID": lambda m, _: m.by_id(m.pop()),
    "NEXT_BUFFER": lambda m, _: m.push(Inert("pickle.PickleBuffer")),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda m, code: m.push(Global(f"copyreg.extension_{code}"))),
}
