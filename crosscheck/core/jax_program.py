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
from crosscheck.core.inside.jaxpr import Rule, as_array, bind, evaluate
from crosscheck.core.jax_arguments import Arguments, Layout, arguments_of, input_key, key_of
from crosscheck.core.problem import Problem, Results, real_pairs

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
            gradient = gradients[quantity.order - 1][key_of(quantity.of, problem)]
            result[quantity] = real_pairs(np.conj(np.asarray(gradient)))
        return result


def trace(fn: Callable[..., Any], layout: Layout, arguments: Arguments, options: Options = None) -> Program:
    """Trace outputs, gradients and Hessian-vector products of ``fn(params, *inputs)``.

    Args:
      fn: the function.
      layout: its arguments.
      arguments: arrays of these shapes.
      options: options for the compilation.

    Raises:
      CouldNotRun: the function returned other outputs than expected.
    """
    static = {key: frozen.value for key, frozen in layout.static}

    def call(floats: dict[str, Any], rest: dict[str, Any]) -> list[Any]:
        values = {**static, **floats, **rest}
        params = {name: values[name] for name in layout.params}
        inputs = jax.tree.unflatten(layout.inputs, [values[input_key(name)] for name in layout.input_names])
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

    traced = jax.jit(run).trace(*arguments.parts)
    compiled = lambda: _flat(traced.lower().compile(options), jax.tree.structure(arguments.parts))
    return Program(layout, traced.jaxpr, jax.tree.structure(traced.out_info), compiled)


def changed(program: Program, layout: Layout, rule: Rule, flat: Sequence[Any]) -> Program:
    """Return a program whose equations are computed under a rule, traced for ``flat`` in the dtype of ``layout``."""
    closed = jax.jit(lambda *flat: evaluate(program.closed, flat, rule)).trace(*flat).jaxpr
    run = jax.jit(lambda *flat: evaluate(closed, flat, Copies()))
    return Program(layout, closed, program.structure, lambda: run.lower(*flat).compile(QUICKLY))


def _flat(compiled: Callable[..., Any], structure: Any) -> Callable[..., Any]:
    """Return a compiled program of ``*Arguments.flat``, with flat results."""
    return lambda *flat: jax.tree.leaves(compiled(*jax.tree.unflatten(structure, list(flat))))


class Copies:
    """A rule for `evaluate` that computes what was traced, with copies of the closed-over arrays."""

    def constant(self, value: Any) -> Any:
        """Return a copy of a constant."""
        return as_array(value)

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
