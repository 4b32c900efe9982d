"""Runs a JAX function on a problem: outputs, and gradients by jax.vjp, in one jitted program."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from typing import Any

import jax

from crosscheck.core.errors import first_line, is_raised_outside
from crosscheck.core.finding import CouldNotRun
from crosscheck.core.jax_arguments import Arguments, Layout, arguments_of, layout_of
from crosscheck.core.jax_program import NEEDS_VALUES, Options, Program, trace
from crosscheck.core.problem import Problem, Results

_MIXED = re.compile(r"requires arguments to have the same dtypes|must be same dtype|verifier errors")


def run_jax(fn: Callable[..., Any], problem: Problem, dtype: str) -> Results:
    """Run ``fn(params, *inputs)``, jitted.

    Args:
      fn: the function.
      problem: the problem.
      dtype: the dtype of all floating-point numbers.

    Returns:
      Outputs, then gradients, as NumPy. They leave the x64 context as NumPy: outside of it an eager operation would
      round them. Complex numbers are real pairs in a last axis, and their gradients follow torch's convention.

    Raises:
      CouldNotRun: the function cannot run in this dtype.
    """
    with jax_precision(dtype):
        return program_for(fn, problem, dtype)(problem)


def program_for(
    fn: Callable[..., Any], problem: Problem, dtype: str, keep: bool = True, options: Options = None
) -> Program:
    """Return the program of ``fn`` for problems of these shapes.

    Integers and bools are traced, as under a user's jit. If the function needs their values, such as a length, it gets
    NumPy arrays.

    Args:
      fn: the function.
      problem: a problem of these shapes.
      dtype: the dtype of all floating-point numbers.
      keep: keep the program for the next call.
      options: options for the compilation of a program that is not kept.
    """
    make = _program if keep and _is_hashable(fn) else partial(_program.__wrapped__, options=options)
    layout = layout_of(problem, dtype)
    program = make(fn, layout, _Shapes(arguments_of(problem, layout)))
    if isinstance(program, Program):
        return program
    layout = layout_of(problem, dtype, values_are_static=True)
    concrete = make(fn, layout, _Shapes(arguments_of(problem, layout)))
    if isinstance(concrete, Program):
        return concrete
    raise concrete


class _Shapes:
    """Arguments whose values do not count. All are equal, since the layout has their shapes."""

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shapes)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=16)
def _program(fn: Callable[..., Any], layout: Layout, shapes: _Shapes, options: Options = None) -> Program | Exception:
    try:
        return trace(fn, layout, shapes.arguments, options)
    except NEEDS_VALUES as error:
        return error


def device_of(dtype: str) -> jax.Device | None:
    """Return the device that a run in ``dtype`` is put on, or None if JAX's default device stays.

    A TPU has no float64 hardware, and its float64 is put together from two float32 numbers. Therefore float64 runs
    on the CPU of its host, unless JAX has only the TPU.
    """
    if dtype != "float64" or jax.default_backend() != "tpu":
        return None
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:
        return None


@contextmanager
def jax_precision(dtype: str) -> Iterator[None]:
    """Set what a run in ``dtype`` needs: products at the highest precision, x64 mode only for float64, and the device.

    An error of the function in the block keeps its type and its traceback, and gets a note.

    Raises:
      CouldNotRun: the function in the block mixes dtypes, so that it cannot run in ``dtype``.
    """
    device = device_of(dtype)
    placed = nullcontext() if device is None else jax.default_device(device)
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"), jax.disable_jit(False), placed:
        try:
            yield
        except CouldNotRun:
            raise
        except Exception as error:
            advice = _advice(error) if isinstance(error, TypeError | ValueError) else ""
            if advice:
                raise CouldNotRun(f"the JAX function could not run in {dtype}: {advice}") from error
            error.add_note(f"raised inside the JAX function, in the {dtype} check")
            raise


def is_fixed_carry(error: BaseException | None) -> bool:
    """Return whether an error says that a loop's carry is float32 in a float64 run."""
    message = str(error)
    return "carry" in message and "float32" in message and "float64" in message


def _advice(error: Exception) -> str:
    """Return what an error about dtypes means; "" if it is about something else."""
    if is_raised_outside(error, jax):
        return ""
    first = first_line(error)
    if is_fixed_carry(error):
        return f"the dtype of its loop's carry is fixed. Make the initial carry from the inputs' dtype. ({first})"
    if _MIXED.search(str(error)):
        return (
            "it mixes dtypes. Does it close over an array? JAX remembers it in the dtype of the x64 setting under "
            f"which it first met it: pass the array as an input instead. ({first})"
        )
    return ""


def _is_hashable(fn: Any) -> bool:
    try:
        hash(fn)
    except TypeError:
        return False
    return True
