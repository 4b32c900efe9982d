"""The constants of an ONNX model as arrays, also if nodes that only move, copy or cast values stand before them.

A small file could ask for huge arrays or for endless work. Both have limits, and cycles are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import numpy as np

from jax_lstm.convert.onnx.graphs import Proto, Value, kind_of
from jax_lstm.convert.onnx.operators import NUMBERS, OPERATORS, Call, require_onnx

FREE, RATIO = 2**26, 32  # folding may make FREE bytes, and RATIO times the bytes that the file holds
STEPS = 10**6  # values that folding may look at
_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError)
_DTYPES = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


class Constants:
    """The constants of one model, each of which is computed once."""

    def __init__(self) -> None:
        self._arrays: dict[Value, np.ndarray] = {}
        self._held = self._made = self._steps = 0

    def read(self, value: Value) -> np.ndarray | Value:
        """Return the array of ``value``; or, if it is no constant, one of the values from which it is computed.

        Raises:
          ValueError: it is a constant that cannot be computed here: a limit is exceeded, nodes form a cycle, a tensor
            is damaged or sparse, or a Cast rounds.
        """
        needed: dict[Value, list[Value]] = {}
        work = [value]
        while work:
            current = work.pop()
            if current in needed:
                continue
            if not self._is_constant(current):
                return current
            self._count(current)
            needed[current] = [] if current in self._arrays else current.inputs
            work += needed[current]
        for current in _in_order(needed):
            if current not in self._arrays:
                self._compute(current)
        return self._arrays[value]

    def _is_constant(self, value: Value) -> bool:
        if value.node is None:
            return value.source is not None
        return kind_of(value.node) == "Constant" or kind_of(value.node) in OPERATORS

    def _count(self, value: Value) -> None:
        self._steps += 1 if value.node is None else 1 + len(value.node.input)
        if self._steps > STEPS:
            raise ValueError(f"{value} is not read: the constants of the model take more than {STEPS} steps.")

    def _compute(self, value: Value) -> None:
        try:
            if value.node is None or kind_of(value.node) == "Constant":
                arrays = {value: _leaf(value)}
                self._held += arrays[value].nbytes
            else:
                arrays = self._call(value)
        except _ERRORS as error:
            message = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise ValueError(f"{value} cannot be read as a constant: {message}.") from error
        self._arrays |= arrays

    def _call(self, value: Value) -> dict[Value, np.ndarray]:
        node, graph = value.node, value.graph
        operator = OPERATORS[kind_of(node)]
        call = Call(node, [self._arrays[graph.find(name)] if name else None for name in node.input])
        size, limit = operator.size(call), FREE + RATIO * self._held
        if self._made + size > limit:
            raise ValueError(f"folding would make {self._made + size} bytes of {self._held}; the limit is {limit}")
        result = operator.apply(call)
        self._made += size
        outputs = result if isinstance(result, list) else [result]
        return {Value(graph, name): a for name, a in zip(node.output, outputs, strict=True) if name}


def _in_order(needed: Mapping[Value, list[Value]]) -> list[Value]:
    """Return the values, each after those from which it is computed."""
    try:
        return list(TopologicalSorter(needed).static_order())
    except CycleError as error:
        raise ValueError(f"{error.args[1][0]} is computed from itself.") from error


def _leaf(value: Value) -> np.ndarray:
    """Return the array of an initializer or of a Constant node."""
    if value.node is None:
        return _dense(value.source)
    given = {attribute.name: attribute for attribute in value.node.attribute}
    if "value" in given:
        return _dense(given["value"].t)
    for name, dtype in _DTYPES.items():
        if name in given:
            return np.array(require_onnx().helper.get_attribute_value(given[name]), dtype)
    raise ValueError(f"supported: value, {', '.join(_DTYPES)}; got {', '.join(given) or 'none'}")


def _dense(tensor: Proto) -> np.ndarray:
    if hasattr(tensor, "indices"):
        raise ValueError("it is sparse; supported: dense tensors")
    if tensor.data_location == tensor.EXTERNAL:  # if the model came as a path, onnx.load has read it already
        raise ValueError("it is in another file; pass the path of the model, so that it is found beside it")
    array = require_onnx().numpy_helper.to_array(tensor)
    if array.dtype.kind not in NUMBERS:
        raise ValueError(f"it holds {array.dtype}; supported: real numbers")
    return array
