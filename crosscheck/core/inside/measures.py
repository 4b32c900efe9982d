"""What is measured inside the two programs of a pair, each once, and only if a check asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from crosscheck.core.conditioning import U32, Conditioning, Inside, Reference
from crosscheck.core.criterion import CRITERIA, Criterion
from crosscheck.core.inside.rounding import DRAWS, SMALL, NoisyRun, Responses, Rounding, measure_rounding, responses_of
from crosscheck.core.problem import Problem, Quantity, Results
from crosscheck.core.slices import Scope

LINEAR = 0.1  # of the response to small errors must be left of that to large ones


@dataclass(frozen=True)
class Measures:
    """Measures the rounding inside a pair.

    Attributes:
      problem: the problem.
      reference: its reference.
      of_reference: runs the reference in float64 with errors inside.
      of_port: runs the port in float64 with errors inside.
      with_moved_constants: functions that run one of the two in float64, and move by a relative size the constants that
        it keeps rounded to float32, such as buffers. It is empty if there are no such constants.
      seed: the seed of the errors.
    """

    problem: Problem
    reference: Reference
    of_reference: NoisyRun
    of_port: NoisyRun
    with_moved_constants: Sequence[Callable[[Problem, float, int], Results]] = ()
    seed: int = 0

    def stages(self, criterion: Criterion) -> Iterator[Reference]:
        """Yield the reference with more and more of what was measured, for a check that needs it.

        First comes the rounding of the reference, then that of the port, then, in float64, that of constants.
        """
        yield self._with(criterion, self._reference, None, None)
        yield self._with(criterion, self._reference, self._port, None)
        if criterion.dtype == "float64" and self.with_moved_constants:
            yield self._with(criterion, self._reference, self._port, self._constants)

    @cached_property
    def _reference(self) -> Rounding:
        return measure_rounding(self.problem, self.reference, self.of_reference, self.seed)

    @cached_property
    def _port(self) -> Rounding:
        return measure_rounding(self.problem, self.reference, self.of_port, self.seed)

    @cached_property
    def _constants(self) -> Responses:
        total: Responses = {}
        for run in self.with_moved_constants:
            exact = run(self.problem, 0.0, self.seed)
            moved = (run(self.problem, U32, self.seed + draw) for draw in range(DRAWS))
            for name, scopes in responses_of(self.problem, self.reference, exact, moved, 1.0).items():
                known = total.setdefault(name, {})
                known.update({scope: known.get(scope, 0.0) + size for scope, size in scopes.items()})
        return total

    def _with(
        self, criterion: Criterion, reference: Rounding, port: Rounding | None, constants: Responses | None
    ) -> Reference:
        def inside(name: Quantity, scope: Scope, known: Conditioning) -> Conditioning:
            nothing = np.zeros_like(known.size)
            try:
                own = reference.of(criterion.dtype, name, scope) * criterion.unit
                others = nothing if port is None else port.of(criterion.dtype, name, scope) * criterion.unit
            except KeyError:  # such as a quantity that only one of the two has
                return known
            small, large = reference.small[name][scope], reference.large[name][scope]
            judge = CRITERIA["float64"]
            zero = (known.size <= judge.factor * judge.unit * small) & (large >= LINEAR * small) & (small > 0)
            rounded = nothing if constants is None else constants[name][scope]
            spread = small * SMALL if criterion.dtype == "float64" else own
            return replace(known, inside=Inside(own, others, rounded, spread, zero))

        conditioning = {
            name: {scope: inside(name, scope, known) for scope, known in scopes.items()}
            for name, scopes in self.reference.conditioning.items()
        }
        return replace(self.reference, conditioning=conditioning)
