"""A JAX function, its outputs and its gradients as one traced program for arrays of given shapes and one dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from crosscheck.core.finding import CouldNotRun
from crosscheck.core.inside.jaxpr import Rule, bind, evaluate
from crosscheck.core.problem import Problem, Results, is_differentiable, is_static, real_pairs

Options: TypeAlias = dict[str, str | bool] | None  # of XLA, for one compilation
# In float64 the meaning is checked, which plainer machine code has too: a GPT-2 block compiles in 0.6 of the time.
QUICKLY: Options = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": "1",
}
NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)


class Frozen:
    """A value that stays concrete inside jit, so that a function may branch on it. Equality is by content."""

    def __init__(self, value: Any) -> None:
        self.value = value
        is_array = isinstance(value, np.ndarray)
        self._key: Any = (value.dtype.str, value.shape, value.tobytes()) if is_array else (type(value), value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._key == other._key

    def __hash__(self) -> int:
        try:
            return hash(self._key)
        except TypeError:  # a static leaf of a kind that has no hash
            return hash(type(self.value))


@dataclass(frozen=True)
class Layout:
    """What a traced program depends on.

    Attributes:
      dtype: of everything that is floating point.
      params: names of the parameters.
      input_names: names of the input leaves, in order.
      inputs: the tree structure of the inputs.
      wrt: the keys to differentiate with respect to. An input's key is "input:" and its name.
      output_names: names of the outputs.
      shapes: shape and dtype of every array by key, and of the cotangents.
      static: values that the function may use as Python values, by key: leaves that are no arrays, and integers if
        it needs their values.
      second_order: Hessian-vector products are asked for.
    """

    dtype: str
    params: tuple[str, ...]
    input_names: tuple[str, ...]
    inputs: Any
    wrt: tuple[str, ...]
    output_names: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], str], ...]
    static: tuple[tuple[str, Frozen], ...]
    second_order: bool


@dataclass(frozen=True)
class Arguments:
    """The arrays of a problem, cast, as a program takes them."""

    floats: dict[str, Any]
    rest: dict[str, Any]
    cotangents: list[Any]
    tangents: dict[str, Any]

    @property
    def flat(self) -> list[Any]:
        """All arrays in the order of the program's parameters."""
        leaves: list[Any] = jax.tree.leaves((self.floats, self.rest, self.cotangents, self.tangents))
        return leaves


@dataclass(frozen=True)
class Program:
    """A traced program.

    Attributes:
      layout: what it was traced for.
      closed: its jaxpr: ``Arguments.flat`` -> outputs, gradients and Hessian-vector products.
      structure: the tree structure of its results.
      compile: returns the compiled program.
    """

    layout: Layout
    closed: ClosedJaxpr
    structure: Any
    compile: Callable[[], Callable[..., Any]]

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The compiled program, of ``*Arguments.flat``."""
        return self.compile()

    def __call__(self, problem: Problem) -> Results:
        """Return outputs, gradients and Hessian-vector products of a problem."""
        return self.results(problem, self.compiled(*arguments_of(problem, self.layout).flat))

    def results(self, problem: Problem, flat: Sequence[Any]) -> Results:
        """Return results by quantity. Complex gradients become torch's: the conjugate of JAX's."""
        outputs, *gradients = jax.tree.unflatten(self.structure, list(flat))
        result: Results = {
            name: real_pairs(np.asarray(o)) for name, o in zip(problem.output_names, outputs, strict=True)
        }
        for quantity in problem.gradients:
            gradient = gradients[quantity.order - 1][_key(quantity.of, problem)]
            result[quantity] = real_pairs(np.conj(np.asarray(gradient)))
        return result


def layout_of(problem: Problem, dtype: str, values_are_static: bool = False) -> Layout:
    """Return the layout of a problem in ``dtype``.

    Args:
      problem: the problem.
      dtype: of everything that is floating point.
      values_are_static: arrays that are not differentiated are static too.
    """
    wrt = {_key(name, problem) for name in problem.wrt}
    values = _values(problem)
    static = {key: a for key, a in values.items() if is_static(a) or (values_are_static and key not in wrt)}
    arrays = {key: np.asarray(a) for key, a in values.items() if key not in static}
    return Layout(
        dtype,
        tuple(problem.params),
        problem.input_names,
        jax.tree.structure(problem.inputs),
        tuple(key for key in values if key in wrt),
        problem.output_names,
        tuple((key, a.shape, a.dtype.str) for key, a in arrays.items()),
        tuple((key, Frozen(a if is_static(a) else _concrete(a, dtype))) for key, a in static.items()),
        bool(problem.tangents),
    )


def _concrete(a: Any, dtype: str) -> np.ndarray:
    """Return an array that stays concrete, as JAX has it in a run: without x64, integers have 32 bits."""
    array = np.array(cast_to(a, dtype))  # a copy, since JAX remembers an array in the dtype of a run
    return array if dtype == "float64" else array.astype({"i8": "i4", "u8": "u4"}.get(array.dtype.str[1:], array.dtype))


def arguments_of(problem: Problem, layout: Layout) -> Arguments:
    """Return the arrays of a problem in the layout's dtype.

    Raises:
      CouldNotRun: an integer is too large for JAX without x64 mode.
    """
    static = dict(layout.static)
    values = {key: a for key, a in _values(problem).items() if not is_static(a)}
    wide = [key for key, a in values.items() if layout.dtype != "float64" and _is_wide(np.asarray(a))]
    if wide:
        raise CouldNotRun(
            f"{wide[0].removeprefix('input:')!r} holds integers over 32 bits, which JAX has only in x64 mode."
        )
    cast = {key: cast_to(a, layout.dtype) for key, a in values.items() if key not in static}
    return Arguments(
        {key: a for key, a in cast.items() if key in layout.wrt},
        {key: a for key, a in cast.items() if key not in layout.wrt},
        [cast_to(np.conj(c), layout.dtype) for c in problem.cotangents],
        {_key(name, problem): cast_to(a, layout.dtype) for name, a in problem.tangents.items()},
    )


def cast_to(a: Any, dtype: str) -> np.ndarray:
    """Return an array with its floating-point numbers in ``dtype``, or in the complex dtype of the same precision."""
    array = np.asarray(a)
    if not is_differentiable(array):
        return array
    if np.iscomplexobj(array):
        return array.astype(np.complex128 if dtype == "float64" else np.complex64)
    return array.astype(jnp.dtype(dtype))


def trace(fn: Callable[..., Any], layout: Layout, arguments: Arguments, options: Options = None) -> Program:
    """Trace outputs, gradients and Hessian-vector products of ``fn(params, *inputs)``.

    Args:
      fn: the function.
      layout: its arguments.
      arguments: arrays of these shapes.
      options: for the compilation.

    Raises:
      CouldNotRun: the function returned other outputs than expected.
    """
    static = {
        key: frozen.value for key, frozen in layout.static
    }  # of JAX, even a constant array has no values inside jit

    def call(floats: dict[str, Any], rest: dict[str, Any]) -> list[Any]:
        values = {**static, **floats, **rest}
        params = {name: values[name] for name in layout.params}
        inputs = jax.tree.unflatten(layout.inputs, [values[_input(name)] for name in layout.input_names])
        outputs = jax.tree.leaves(fn(params, *inputs))
        _check_shapes(layout.output_names, outputs, arguments.cotangents)
        return [jnp.asarray(output) for output in outputs]

    def gradients(floats: Any, rest: Any, cotangents: list[Any]) -> tuple[Any, list[Any]]:
        outputs, pullback = jax.vjp(lambda floats: call(floats, rest), floats)
        (result,) = pullback([_cotangent(c, o) for c, o in zip(cotangents, outputs, strict=True)])
        return result, outputs

    def run(floats: Any, rest: Any, cotangents: list[Any], tangents: Any) -> Any:
        if not layout.second_order:
            first, outputs = gradients(floats, rest, cotangents)
            return outputs, first
        first, pullback, outputs = jax.vjp(lambda floats: gradients(floats, rest, cotangents), floats, has_aux=True)
        (second,) = pullback({key: tangents[key].astype(a.dtype) for key, a in first.items()})
        return outputs, first, second

    traced = jax.jit(run).trace(arguments.floats, arguments.rest, arguments.cotangents, arguments.tangents)
    structure = jax.tree.structure(traced.out_info)
    closed = traced.jaxpr
    compiled = lambda: _flat(traced.lower().compile(options), arguments)
    return Program(layout, closed, structure, compiled)


def changed(program: Program, layout: Layout, rule: Rule, flat: Sequence[Any]) -> Program:
    """Return a program whose equations are computed under a rule, traced for ``flat`` in the dtype of ``layout``."""
    closed = jax.jit(lambda *flat: evaluate(program.closed, flat, rule)).trace(*flat).jaxpr
    return _of_jaxpr(layout, closed, program.structure, flat, QUICKLY)


def _of_jaxpr(layout: Layout, closed: ClosedJaxpr, structure: Any, flat: Sequence[Any], options: Options) -> Program:
    run = jax.jit(lambda *flat: evaluate(closed, flat, Copies()))
    return Program(layout, closed, structure, lambda: run.lower(*flat).compile(options))


def _flat(compiled: Callable[..., Any], arguments: Arguments) -> Callable[..., Any]:
    """Return a compiled program of ``*Arguments.flat``, with flat results."""
    structure = jax.tree.structure((arguments.floats, arguments.rest, arguments.cotangents, arguments.tangents))
    return lambda *flat: jax.tree.leaves(compiled(*jax.tree.unflatten(structure, list(flat))))


class Copies:
    """A rule for `evaluate` that computes what was traced, with copies of the closed-over arrays."""

    def constant(self, value: Any) -> Any:
        """Return a copy of a constant."""
        return np.array(value)

    def equation(self, eqn: JaxprEqn, values: Sequence[Any]) -> Sequence[Any]:
        """Return the results of an equation."""
        return bind(eqn, values)

    def call(self, name: str, results: list[Any]) -> list[Any]:
        """Return the results of a call unchanged."""
        return results


def _check_shapes(names: Sequence[str], outputs: Sequence[Any], cotangents: Sequence[np.ndarray]) -> None:
    if len(outputs) != len(names):
        raise CouldNotRun(f"the JAX function returned {len(outputs)} arrays, expected {tuple(names)}.")
    for name, output, cotangent in zip(names, outputs, cotangents, strict=True):
        if np.shape(output) != cotangent.shape:
            raise CouldNotRun(
                f"{name!r} has shape {np.shape(output)} from the JAX function "
                f"and {cotangent.shape} from the torch module."
            )


def _cotangent(cotangent: Any, output: Any) -> Any:
    if jnp.issubdtype(output.dtype, jnp.complexfloating):
        return cotangent.astype(output.dtype)
    if jnp.issubdtype(output.dtype, jnp.floating):
        return jnp.real(cotangent).astype(output.dtype)
    return np.zeros(output.shape, jax.dtypes.float0)


def _values(problem: Problem) -> dict[str, Any]:
    return dict(problem.params) | {_input(name): a for name, a in problem.input_leaves.items()}


def _key(name: str, problem: Problem) -> str:
    return name if name in problem.params else _input(name)


def _input(name: str) -> str:
    """Return the key of an input. A parameter may have the same name."""
    return "input:" + name


def _is_wide(a: np.ndarray) -> bool:
    return a.dtype.kind in "iu" and a.size > 0 and not -(2**31) <= int(a.min()) <= int(a.max()) < 2**31
