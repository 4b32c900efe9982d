"""A port under test: its programs, the narrow types inside them, and its rounding.

In float64 a port is judged by what it means: narrower types inside are lifted to float64, and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from crosscheck.core.inside.jaxpr import closed_over, equations, evaluate
from crosscheck.core.inside.narrow import Lift, NarrowType, narrow_types, rounded_constants
from crosscheck.core.inside.port_noise import Noise, Place, places_of
from crosscheck.core.jax_arguments import Layout, arguments_of, layout_of
from crosscheck.core.jax_program import QUICKLY, Copies, Program, changed
from crosscheck.core.jax_runner import is_fixed_carry, jax_precision, program_for
from crosscheck.core.problem import Problem, Results


class Port:
    """A JAX function as the judge runs it. Each program is traced once.

    Attributes:
      narrow: where the function leaves float64, each place once.
      carry_is_fixed: a loop's carry is float32 in any run, so that the float32 program was lifted as a whole.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = lambda *arguments: fn(*arguments)  # a new function, since the user may have edited what fn calls
        self._programs: dict[Layout, Program] = {}
        self._noisy: dict[Layout, tuple[list[Place], Callable[..., Any]]] = {}
        self._rounded: dict[Layout, Program] = {}  # as traced, if it has rounded constants
        self._moved: dict[Layout, Callable[..., Any]] = {}
        self.narrow: list[NarrowType] = []
        self.carry_is_fixed = False

    def __call__(self, problem: Problem, dtype: str) -> Results:
        """Return outputs and gradients of a problem in ``dtype``."""
        with jax_precision(dtype):
            return self._program(problem, dtype)(problem)

    def loops(self, problem: Problem) -> bool:
        """Return whether the program has a loop of several steps, such as that of a recurrence."""
        with jax_precision("float64"):
            closed = self._program(problem, "float64").closed
        return any(eqn.primitive.name == "scan" and eqn.params["length"] > 1 for eqn in equations(closed.jaxpr))

    def noisy(self, problem: Problem, size: float, seed: int, only: Place | None = None) -> Results:
        """Return the results in float64 with a relative error of ``size`` in every operation, or only at one place."""
        with jax_precision("float64"):
            program = self._program(problem, "float64")
            flat = arguments_of(problem, program.layout).flat
            places, run = self._noisy_program(program, flat)
            sizes = np.array([size * (only in (None, place)) for place in places])
            return program.results(problem, run(sizes, np.uint64(seed), *flat))

    def has_rounded_constants(self, problem: Problem) -> bool:
        """Return whether the program has literals or arrays that were rounded to a narrower type than float64."""
        with jax_precision("float64"):
            return self._program(problem, "float64").layout in self._rounded

    def with_moved_constants(self, problem: Problem, size: float, seed: int) -> Results:
        """Return the results in float64 with rounded constants moved by a relative ``size``, as if float32 had them."""
        with jax_precision("float64"):
            program = self._program(problem, "float64")
            layout, flat = program.layout, arguments_of(problem, program.layout).flat
            if layout not in self._moved:
                traced = self._rounded[layout].closed
                run = jax.jit(lambda size, seed, *flat: evaluate(traced, flat, Lift(size, seed)))
                self._moved[layout] = run.lower(np.float64(0), np.uint64(0), *flat).compile(QUICKLY)
            return program.results(problem, self._moved[layout](np.float64(size), np.uint64(seed), *flat))

    def places(self, problem: Problem) -> Sequence[Place]:
        """Return every operation that may round, by location."""
        with jax_precision("float64"):
            return places_of(self._program(problem, "float64").closed)

    def _noisy_program(self, program: Program, flat: Sequence[Any]) -> tuple[list[Place], Callable[..., Any]]:
        if program.layout not in self._noisy:
            places = places_of(program.closed)
            run = jax.jit(lambda sizes, seed, *flat: evaluate(program.closed, flat, Noise(places, sizes, seed)))
            compiled = run.lower(np.zeros(len(places)), np.uint64(0), *flat).compile(QUICKLY)
            self._noisy[program.layout] = places, compiled
        return self._noisy[program.layout]

    def _program(self, problem: Problem, dtype: str) -> Program:
        layout = layout_of(problem, dtype)
        if layout not in self._programs:
            self._programs[layout] = self._lifted(problem) if dtype == "float64" else self._traced(problem, dtype)
        return self._programs[layout]

    def _traced(self, problem: Problem, dtype: str) -> Program:
        options = QUICKLY if dtype == "float64" else None
        return program_for(self._fn, problem, dtype, keep=False, options=options)

    def _lifted(self, problem: Problem) -> Program:
        """Return the program in float64, without narrower types."""
        try:
            program = self._traced(problem, "float64")
        except TypeError as error:
            if not is_fixed_carry(error):
                raise
            return self._from_float32(problem)
        narrow = narrow_types(program.closed)
        self.narrow += [place for place in narrow if place not in self.narrow]
        flat = arguments_of(problem, program.layout).flat
        if any(_has_64_bits(v.aval) for v in closed_over(program.closed)):
            program = changed(program, program.layout, Copies(), flat)
            jax.clear_caches()  # as long as JAX keeps the traced program, it takes the arrays for float64 in any run
        if rounded_constants(program.closed):
            self._rounded[program.layout] = program
        return changed(program, program.layout, Lift(), flat) if narrow else program

    def _from_float32(self, problem: Problem) -> Program:
        """Return the float32 program with every number in float64."""
        self.carry_is_fixed = True
        with jax_precision("float32"):
            program = self._traced(problem, "float32")
        static = bool(program.layout.static) and layout_of(problem, "float32") != program.layout
        layout = layout_of(problem, "float64", values_are_static=static)
        if rounded_constants(program.closed):
            self._rounded[layout] = program
        return changed(program, layout, Lift(), arguments_of(problem, layout).flat)


def _has_64_bits(aval: Any) -> bool:
    return str(getattr(aval, "dtype", "")) in ("float64", "complex128", "int64", "uint64")
