"""A reader of pickles that does not run them: a machine for the opcodes of pickle that makes only plain values.

A pickle is a program. Python's own unpickler imports what the program names and calls it. This machine can neither
import nor call: a name becomes a `Global`, and what the program would build of it becomes an `Inert`. The
caller passes a table of the few names that stand for data, such as torch's tensors, each with a function that makes it.

Source of the opcodes: ``pickletools``, which also splits the bytes into opcodes. Values that the file shares are shared
here. Copies, such as of a list or a text, are paid from a ``Budget``. Dictionary keys are flat, since hashing
nested tuples can take endless time.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias

from crosscheck.studies.checkpoint.budget import Budget, TooLarge

Value: TypeAlias = Any  # a number, text, container, Global, Inert, or what the caller's makers make
Maker: TypeAlias = Callable[[Sequence[Value]], Value]
SetState: TypeAlias = Callable[[Value, Value], None]
ITEM = 16  # bytes of the copy of one item of a container
KEY_LENGTH = 16  # items of a tuple that is a dictionary's key
NAME_LENGTH, INTEGER_BITS = 1000, 256  # no class has a longer name; no random generator has a larger state
_SCALARS = (str, int, float, bool, bytes, type(None))


class BadPickle(ValueError):
    """The bytes are no pickle, or one that no honest program writes."""


@dataclass(frozen=True)
class Global:
    """The name of a class or function, such as "collections.OrderedDict", which was not imported."""

    name: str


@dataclass(eq=False)
class Inert:
    """An object that a pickle would have made and that was not made.

    Attributes:
      name: the class or function.
      args: what would be passed to it.
      state: what would be set as the object's state.
      items: what would be appended.
      entries: what would be set by key.
    """

    name: str
    args: Sequence[Value] = ()
    state: Value = None
    items: list[Value] = field(default_factory=list)
    entries: dict[Value, Value] = field(default_factory=dict)


def read_pickle(
    data: bytes | IO[bytes],
    makers: Mapping[str, Maker],
    persistent: Callable[[Value], Value],
    set_state: SetState,
    budget: Budget | None = None,
) -> tuple[Value, int]:
    """Return the value of the first pickle in ``data``, and the number of bytes that this pickle takes.

    Args:
      data: bytes, or a file that is open for reading.
      makers: functions by the name for which they stand. Each gets the arguments of the pickle's call and returns a
        value.
      persistent: returns the value of a persistent id.
      set_state: sets the state of a value that ``makers`` or ``persistent`` made and that is no plain container. It
        raises TypeError for any other value.
      budget: what the file may still take; None means a new budget.

    Raises:
      BadPickle: an opcode does not fit what came before it, or the pickle is truncated.
      TooLarge: it exceeds the budget.
      ValueError: ``pickletools`` cannot split the bytes.
    """
    machine = _Machine(makers, persistent, set_state, budget or Budget())
    for opcode, argument, position in pickletools.genops(data):
        machine.budget.pay_opcode()
        if opcode.name == "STOP":
            return machine.pop(), (position or 0) + 1
        try:
            _STEPS[opcode.name](machine, argument)
        except (IndexError, KeyError, TypeError, AttributeError) as error:
            raise BadPickle(f"its opcode {opcode.name} at byte {position} does not fit what is before it") from error
    raise BadPickle("it has no end")


@dataclass
class _Machine:
    """The stack, the marks and the memo of a pickle while it is read."""

    makers: Mapping[str, Maker]
    persistent: Callable[[Value], Value]
    set_state: SetState
    budget: Budget
    stack: list[Value] = field(default_factory=list)
    marked: list[list[Value]] = field(default_factory=list)
    memo: dict[int, Value] = field(default_factory=dict)

    def literal(self, value: Value) -> None:
        if isinstance(value, int) and value.bit_length() > INTEGER_BITS:
            raise TooLarge(f"it has an integer of {value.bit_length():,} bits")
        self.stack.append(value)

    def push(self, value: Value) -> None:
        self.stack.append(value)

    def pop(self) -> Value:
        return self.stack.pop()

    def pop_mark(self) -> list[Value]:
        """Return the values since the last mark."""
        above, self.stack = self.stack, self.marked.pop()
        return above

    def mark(self, _: Value) -> None:
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

    def extend(self, values: Sequence[Value]) -> None:
        target = self.stack[-1]
        (target.items if isinstance(target, Inert) else _checked(target, list)).extend(values)

    def set_items(self, values: Sequence[Value]) -> None:
        if len(values) % 2:
            raise IndexError
        target = self.stack[-1]
        entries = target.entries if isinstance(target, Inert) else _checked(target, dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            entries[flat_key(key, len(entries))] = value

    def dict_of(self, _: Value) -> None:
        values = self.pop_mark()
        self.stack.append({})
        self.set_items(values)

    def global_from_stack(self, _: Value) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(_global(_checked(module, str), _checked(name, str)))

    def make(self, target: Value, args: Value) -> None:
        if not isinstance(target, (Global, Inert)):
            raise TypeError
        maker = self.makers.get(target.name) if isinstance(target, Global) else None
        if maker:  # it may copy its arguments
            self.budget.pay_copy(sum(map(_size, _checked(args, tuple))))
        self.stack.append(maker(args) if maker else Inert(target.name, _checked(args, tuple)))

    def reduce(self, _: Value) -> None:
        args, target = self.pop(), self.pop()
        self.make(target, args)

    def new_with_keywords(self, _: Value) -> None:
        keywords, args, target = self.pop(), self.pop(), self.pop()
        self.make(target, args)
        if isinstance(result := self.stack[-1], Inert):
            result.state = keywords

    def object_of(self, _: Value) -> None:
        target, *args = self.pop_mark()
        self.make(target, tuple(args))

    def build(self, _: Value) -> None:
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, (dict, list)):  # their state is no content
            parts = state[:5] if isinstance(state, (list, tuple)) else ()
            self.budget.pay_copy(sum(len(part) for part in parts if isinstance(part, str)))  # it may become bytes
            self.set_state(target, state)


def _checked(value: Value, kind: type) -> Value:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _size(value: Value) -> int:
    """Return about how many bytes a copy takes."""
    if isinstance(value, (list, tuple, dict)):
        return ITEM * len(value)
    return len(value) if isinstance(value, (str, bytes, bytearray)) else 0


def _global(module: str, name: str) -> Global:
    if len(module) + len(name) > NAME_LENGTH:
        raise BadPickle("a class has a name without end")
    return Global(f"{module}.{name}")


def flat_key(value: Value, number: int) -> Value:
    """Return a key that hashes in constant time: the value itself if it is a scalar or a short tuple of scalars."""
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, tuple) and len(value) <= KEY_LENGTH and all(isinstance(item, _SCALARS) for item in value):
        return value
    return f"<{type(value).__name__}>#{number}"


_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_STEPS: dict[str, Callable[[_Machine, Value], object]] = {
    **dict.fromkeys(_LITERALS, _Machine.literal),
    **dict.fromkeys(("PROTO", "FRAME", "READONLY_BUFFER"), lambda m, _: None),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda m, _: m.push([])),
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
    "PERSID": lambda m, identity: m.push(m.persistent(identity)),
    "BINPERSID": lambda m, _: m.push(m.persistent(m.pop())),
    "NEXT_BUFFER": lambda m, _: m.push(Inert("pickle.PickleBuffer")),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda m, code: m.push(Global(f"copyreg.extension_{code}"))),
}
