"""What `crosscheck.check` does more for a pair that is an LSTM: slices, windows, proof of the inputs, diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from crosscheck.core.criterion import LANES
from crosscheck.core.finding import CouldNotRun, Finding, Kind
from crosscheck.core.judge import Run, Windows
from crosscheck.core.problem import Arrays, Problem, gradient_name, is_floating
from crosscheck.core.reference import Reference, is_chaotic, measure
from crosscheck.core.slices import Cut, gate_cuts
from crosscheck.diagnosis import Port, diagnose
from crosscheck.diagnosis.inputs import premise
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.teacher_forcing import SIZES, calmed, cut_into_windows
from crosscheck.suite.recognize import INPUTS, OUTPUTS

Lstm = tuple[RecurrentCase, Problem]


def cuts_of(problem: Problem, lstm: Lstm | None) -> dict[str, Cut]:
    """Gate blocks by the parameters' names; time steps where T is known, or is one axis of a 3-D array alone."""
    cuts = {gradient_name(name): cut for name, cut in gate_cuts(problem.params).items()}
    names = [*zip(problem.output_names, problem.cotangents, strict=True)]
    names += [(gradient_name(name), a) for name, a in problem.input_leaves.items() if name in problem.wrt]
    if lstm is not None:
        canonical = lstm[1]
        user = [*problem.output_names, *map(gradient_name, problem.input_names)]
        own = dict(zip([*OUTPUTS, *map(gradient_name, INPUTS)], user, strict=False))  # h0 and c0 may be missing
        return cuts | {own[name]: cut for name, cut in canonical.cuts.items() if name in own}
    for name, a in names:
        axes = [n for n, size in enumerate(np.shape(a)[:-1]) if size == problem.steps]
        if is_floating(a) and np.ndim(a) == 3 and problem.steps > 1 and len(axes) == 1:
            cuts[name] = Cut(axes[0], "t")
    return cuts


@dataclass(frozen=True)
class LstmPair:
    """case and canonical: the network, and the problem under the names of cases. port and truth take the user's own
    structure of inputs, or that of cases; they are positional. problem: the user's.
    """

    case: RecurrentCase
    canonical: Problem
    port: Run
    truth: Callable[[Problem], Arrays]
    paths: Sequence[Callable[[Problem], Arrays]]
    problem: Problem

    @property
    def stateless(self) -> bool:
        return len(self.problem.input_names) == 1

    def premise(self) -> tuple[Finding, ...]:
        return premise(self.case, self.canonical, self.stateless)

    def notes(self) -> list[str]:
        """Cotangents that are the same at every step hide a backward pass that reads them in reversed time."""
        y = np.moveaxis(np.asarray(self.problem.cotangents[0]), self.case.time_axis, 0)
        if len(y) > 1 and np.array_equal(y, y[::-1]):
            return ["cotangents are the same in reversed time: a backward pass that reads them so would pass"]
        return []

    def windows(self, chaotic: bool) -> list[Windows]:
        """None for a pair without initial states, which no window can start from."""
        if self.stateless or self.case.batch is None:
            return []
        found = []
        for size in (size for size in SIZES if size <= self.case.steps):
            small, problem = cut_into_windows(self.case, self.canonical, size)
            reference = measure(problem, self.truth, self.paths, seed=size)
            found.append(Windows(Kind.TEACHER_FORCED, problem, reference, self.port, steps=small.steps))
        if chaotic:
            known: list[Reference] = []

            def undecided(problem: Problem) -> bool:
                known.append(measure(problem, self.truth, self.paths))
                return is_chaotic(known[-1])

            calm = calmed(self.canonical, undecided)
            if calm is None:
                return []
            found.append(Windows(Kind.DAMPED, calm, known[-1], self.port, (LANES["A"],)))
        return found

    def diagnosis(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        names = dict(zip(self.problem.output_names, OUTPUTS, strict=True))
        canonical = [replace(f, quantity=names.get(f.quantity, f.quantity)) for f in findings]
        found = diagnose(Port(self.case, self.canonical, lambda case: self._run, self.stateless), canonical)
        return found.lines if found is not None else ()

    def _run(self, problem: Problem, dtype: str) -> Arrays:
        """A problem of a case, given to a function that may take x alone."""
        if not self.stateless:
            return self.port(problem, dtype)
        x, states = problem.inputs
        if any(np.any(a) for a in states):
            raise CouldNotRun("it takes no initial states")
        wrt = tuple(name for name in problem.wrt if name not in INPUTS[1:])
        return self.port(replace(problem, inputs=(x,), input_names=("x",), wrt=wrt), dtype)
