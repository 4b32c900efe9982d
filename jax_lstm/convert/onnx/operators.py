"""The ONNX operators that move, copy or cast values without arithmetic, on NumPy arrays.

Older opsets have as an attribute what newer ones have as an input: both are read. onnx's own ReferenceEvaluator is not
used: its Unsqueeze of opset 11 puts the axes [1, 0] elsewhere than ONNX Runtime.
Source: the operators' documentation, opset 7 to 27.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from jax_lstm.convert.onnx.graphs import Proto

ROUNDED = (("float64", "float32"), ("float32", "float16"))  # IEEE 754's nearest, ties to even, in ONNX Runtime as here
NUMBERS = "biufV"  # kinds of dtype; V is the kind of ml_dtypes, such as bfloat16
MOST_INTEGERS = 1000  # the most in a shape, axes or sizes of parts


def require_onnx() -> ModuleType:
    """Return the onnx package. ImportError, which says how to install it, if it is not there."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX models need the package onnx: pip install 'jax-lstm[files]'.") from error
    return onnx


@dataclass(frozen=True)
class Call:
    """A node and its inputs by position, None for one that is left out."""

    node: Proto
    inputs: Sequence[np.ndarray | None]

    @property
    def data(self) -> np.ndarray:
        return self.input(0)

    def input(self, position: int) -> np.ndarray:
        if position >= len(self.inputs) or (array := self.inputs[position]) is None:
            raise ValueError(f"input {position} is missing")
        return array

    def attribute(self, name: str, default: Any = None) -> Any:
        helper = require_onnx().helper
        return next((helper.get_attribute_value(a) for a in self.node.attribute if a.name == name), default)

    def integers(self, name: str, position: int) -> list[int] | None:
        """Return the attribute ``name``, or the input at ``position``; None if neither is given."""
        given = self.attribute(name)
        if given is None and position < len(self.inputs):
            given = self.inputs[position]
        if given is None:
            return None
        array = np.asarray(given)
        if array.size > MOST_INTEGERS:  # Python's integers take more memory
            raise ValueError(f"{name} must be at most {MOST_INTEGERS} integers; got {array.size}")
        return array.ravel().tolist()

    def required(self, name: str, position: int) -> list[int]:
        integers = self.integers(name, position)
        if integers is None:
            raise ValueError(f"{name} is missing")
        return integers


def _unsqueeze(call: Call) -> np.ndarray:
    return np.expand_dims(call.data, tuple(call.required("axes", 1)))


def _squeeze(call: Call) -> np.ndarray:
    axes = call.integers("axes", 1)
    return np.squeeze(call.data, tuple(axes) if axes else None)


def _reshape(call: Call) -> np.ndarray:
    shape = call.required("shape", 1)
    if not call.attribute("allowzero", 0):
        shape = [size or call.data.shape[axis] for axis, size in enumerate(shape)]
    return call.data.reshape(shape)


def _transpose(call: Call) -> np.ndarray:
    return np.transpose(call.data, call.attribute("perm") or None)


def _slice(call: Call) -> np.ndarray:
    starts, ends = call.required("starts", 1), call.required("ends", 2)
    axes = call.integers("axes", 3) or range(len(starts))
    steps = call.integers("steps", 4) or [1] * len(starts)
    parts = [slice(None)] * call.data.ndim
    for axis, start, end, step in zip(normalize_axis_tuple(axes, call.data.ndim), starts, ends, steps, strict=True):
        before = (
            step < 0 and start < -call.data.shape[axis]
        )  # then ONNX begins at the first element, and NumPy takes nothing
        parts[axis] = slice(0 if before else start, end, step)
    return call.data[tuple(parts)]


def _split(call: Call) -> list[np.ndarray]:
    (axis,) = normalize_axis_tuple(call.attribute("axis", 0), call.data.ndim)
    length, parts, sizes = call.data.shape[axis], len(call.node.output), call.integers("split", 1)
    if sizes is None:
        size = -(-length // parts)
        sizes = [size] * (parts - 1) + [length - size * (parts - 1)]
    if len(sizes) != parts or min(sizes) < 0 or sum(sizes) != length:
        raise ValueError(f"{length} is not divided by parts of {sizes}")
    return np.split(call.data, np.cumsum(sizes)[:-1], axis)


def _cast(call: Call) -> np.ndarray:
    data, wanted = call.data, _cast_dtype(call)
    with np.errstate(all="ignore"):
        cast = data.astype(wanted)
        kept = np.array_equal(cast.astype(data.dtype), data, equal_nan=True)
    if not kept and (data.dtype.name, wanted.name) not in ROUNDED:
        raise ValueError(
            f"it rounds {data.dtype.name} to {wanted.name}, which need not be the same in every runtime; supported: "
            f"casts that keep all values, and {', '.join(map(' to '.join, ROUNDED))}"
        )
    return cast


def _cast_dtype(call: Call) -> np.dtype[Any]:
    wanted = np.dtype(require_onnx().helper.tensor_dtype_to_np_dtype(call.attribute("to")))
    if wanted.kind not in NUMBERS:
        raise ValueError(f"it makes {wanted.name}; supported: real numbers")
    return wanted


def _concat(call: Call) -> np.ndarray:
    (axis,) = call.required("axis", len(call.inputs))  # without an axis, NumPy would flatten
    return np.concatenate(_all_inputs(call), axis)


def _all_inputs(call: Call) -> list[np.ndarray]:
    return [call.input(position) for position in range(len(call.inputs))]


def _gather(call: Call) -> np.ndarray:
    return np.take(call.data, call.input(1), call.attribute("axis", 0))


def _gather_size(call: Call) -> int:
    return call.input(1).size * (call.data.nbytes // call.data.shape[call.attribute("axis", 0)])


def _expand(call: Call) -> np.ndarray:
    return np.broadcast_to(call.data, _expanded_shape(call))


def _expanded_shape(call: Call) -> tuple[int, ...]:
    return np.broadcast_shapes(call.data.shape, tuple(call.required("shape", 1)))


def _fill(call: Call) -> np.ndarray:
    return np.broadcast_to(_fill_value(call).reshape(()), call.required("input", 0))


def _fill_value(call: Call) -> np.ndarray:
    given = call.attribute("value")
    return np.zeros(1, np.float32) if given is None else require_onnx().numpy_helper.to_array(given)


@dataclass(frozen=True)
class Operator:
    """An operator.

    Attributes:
      apply: returns the output, or a list of outputs.
      size: returns the bytes of the output before any memory is taken.
    """

    apply: Callable[[Call], np.ndarray | list[np.ndarray]]
    size: Callable[[Call], int] = lambda call: call.data.nbytes


OPERATORS = {
    "Identity": Operator(lambda call: call.data),
    "Unsqueeze": Operator(_unsqueeze),
    "Squeeze": Operator(_squeeze),
    "Reshape": Operator(_reshape),
    "Transpose": Operator(_transpose),
    "Slice": Operator(_slice),
    "Split": Operator(_split),
    "Cast": Operator(_cast, lambda call: call.data.size * _cast_dtype(call).itemsize),
    "Concat": Operator(_concat, lambda call: sum(a.nbytes for a in _all_inputs(call))),
    "Gather": Operator(_gather, _gather_size),
    "Expand": Operator(_expand, lambda call: math.prod(_expanded_shape(call)) * call.data.itemsize),
    "ConstantOfShape": Operator(
        _fill, lambda call: math.prod(call.required("input", 0)) * _fill_value(call).dtype.itemsize
    ),
}
