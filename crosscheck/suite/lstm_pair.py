"""What `crosscheck.check` does in addition if a pair is an LSTM: slices, stand-ins, check of the inputs, diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from crosscheck.core.errors import run_at_other_sizes
from crosscheck.core.finding import CouldNotRun, Finding
from crosscheck.core.judge import Run, StandIn
from crosscheck.core.problem import Gradient, Problem, Quantity, Results, is_floating
from crosscheck.core.reference import Reference, ReferenceRun, measure_reference
from crosscheck.core.slices import TIME, Slicing
from crosscheck.diagnosis.disagreement import diagnose
from crosscheck.diagnosis.inputs import check_inputs
from crosscheck.diagnosis.subject import Subject
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import gate_slicings
from crosscheck.suite.assessment import Substitutes
from crosscheck.suite.recognize import INPUTS, OUTPUTS


@dataclass(frozen=True)
class LstmPair:
    """A pair that is an LSTM.

    Attributes:
      case: the network.
      canonical: the problem under the names of cases.
      port: runs the JAX function, with the inputs in the user's structure or in that of cases.
      truth: runs the torch module in float64, in the same way.
      paths: run it in float32.
      problem: the problem under the user's names.
    """

    case: RecurrentCase
    canonical: Problem
    port: Run
    truth: ReferenceRun
    paths: Sequence[ReferenceRun]
    problem: Problem

    @property
    def stateless(self) -> bool:
        """Whether the function takes no initial states."""
        return len(self.problem.input_names) == 1

    def input_findings(self) -> tuple[Finding, ...]:
        """Return what the check of the inputs finds."""
        return check_inputs(self.case, self.canonical, self.stateless)

    def notes(self) -> list[str]:
        """Return a note if cotangents hide a backward pass that reads them in reversed time."""
        y = np.moveaxis(np.asarray(self.problem.cotangents[0]), self.case.time_axis, 0)
        if len(y) > 1 and np.array_equal(y, y[::-1]):
            return ["cotangents are the same in reversed time: a backward pass that reads them so would pass"]
        return []

    @cached_property
    def _substitutes(self) -> Substitutes:
        return Substitutes(self.case, self.canonical, self._measure)

    def _measure(self, case: RecurrentCase, problem: Problem) -> Reference:
        """Measure the torch module on a problem of other sizes, which may be written into it."""
        truth, *paths = (partial(_run_at_other_sizes, run) for run in (self.truth, *self.paths))
        return measure_reference(problem, truth, paths, seed=case.seed)

    def stand_ins(self, chaotic: bool) -> list[StandIn]:
        """Return the stand-ins. A pair without initial states has none, since no stretch can start from a state."""
        if self.stateless or self.case.batch is None:
            return []
        return self._substitutes.stand_ins(lambda case: self.port, chaotic)

    def explain(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        """Return the lines of the diagnosis."""
        names: dict[Quantity, Quantity] = dict(zip(self.problem.output_names, OUTPUTS, strict=True))
        canonical = [replace(f, quantity=names.get(f.quantity, f.quantity)) for f in findings]
        diagnosis = diagnose(Subject(self.case, self.canonical, lambda case: self._run, self.stateless), canonical)
        return diagnosis.lines if diagnosis is not None else ()

    def _run(self, problem: Problem, dtype: str) -> Results:
        """Run the port on a problem of a case. A function that takes only x needs zero states."""
        if not self.stateless:
            return self.port(problem, dtype)
        x, states = problem.inputs
        if any(np.any(a) for a in states):
            raise CouldNotRun("it takes no initial states")
        wrt = tuple(name for name in problem.wrt if name not in INPUTS[1:])
        return self.port(replace(problem, inputs=(x,), input_names=("x",), wrt=wrt), dtype)


def _run_at_other_sizes(run: ReferenceRun, problem: Problem) -> Results:
    return run_at_other_sizes(lambda: run(problem))


def slicings_of(problem: Problem, pair: LstmPair | None) -> dict[Quantity, Slicing]:
    """Return the slices of a problem's quantities.

    Parameters with torch's LSTM names are sliced by gate. An array is sliced by time step if the pair is an LSTM, or if
    exactly one axis of a 3-D array is T long.
    """
    slicings: dict[Quantity, Slicing] = {Gradient(name): s for name, s in gate_slicings(problem.params).items()}
    if pair is not None:
        users: list[Quantity] = [*problem.output_names, *map(Gradient, problem.input_names)]
        canonical: list[Quantity] = [*OUTPUTS, *map(Gradient, INPUTS)]
        names = dict(zip(canonical, users, strict=False))  # h0 and c0 may be missing
        return slicings | {names[name]: s for name, s in pair.canonical.slicings.items() if name in names}
    arrays: list[tuple[Quantity, np.ndarray]] = [*zip(problem.output_names, problem.cotangents, strict=True)]
    arrays += [(Gradient(name), a) for name, a in problem.input_leaves.items() if name in problem.wrt]
    for name, a in arrays:
        axes = [n for n, size in enumerate(np.shape(a)[:-1]) if size == problem.steps]
        if is_floating(a) and np.ndim(a) == 3 and problem.steps > 1 and len(axes) == 1:
            slicings[name] = Slicing(axes[0], TIME)
    return slicings
