"""A pair that is an LSTM: `crosscheck.check` then adds slices, stand-ins, the check of the inputs and the diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import jax
import numpy as np

from crosscheck.core.conditioning import ReferenceRun
from crosscheck.core.errors import run_at_other_sizes
from crosscheck.core.finding import CouldNotRun, Finding, Outcome
from crosscheck.core.judge import Run, StandIn
from crosscheck.core.problem import Gradient, Problem, Quantity, Results, is_differentiable
from crosscheck.core.reference import measure_reference
from crosscheck.core.slices import POSITION, TIME, Slicing
from crosscheck.diagnosis.inputs import first_steps
from crosscheck.diagnosis.subject import truth as truth_of
from crosscheck.lstm.cases import RecurrentCase
from crosscheck.lstm.gates import gate_slicings
from crosscheck.suite.arguments import longest_axis
from crosscheck.suite.network import Measure, Network
from jax_lstm._src.network import read_network

FEW = 4
INPUTS = ("x", "h0", "c0")
OUTPUTS = ("y", "h_n", "c_n")
BY_ITSELF = (
    "no diagnosis by name: it needs the LSTM by itself and without lengths, with inputs x, or x and (h, c), and with "
    "outputs y and (h, c). Check it in that form first"
)


@dataclass(frozen=True)
class LstmPair:
    """A pair that is an LSTM.

    Attributes:
      network: the network, with the problem under the names of cases.
      port: runs the JAX function, with the inputs in the user's structure or in the structure of cases.
      problem: the problem under the user's names.
    """

    network: Network
    port: Run
    problem: Problem

    def notes(self) -> list[str]:
        """Return a note if cotangents hide a backward pass that reads them in reversed time."""
        y = np.moveaxis(np.asarray(self.problem.cotangents[0]), self.network.case.time_axis, 0)
        if len(y) > 1 and np.array_equal(y, y[::-1]):
            return ["cotangents are the same in reversed time: a backward pass that reads them so would pass"]
        return []

    def stand_ins(self, chaotic: bool) -> list[StandIn]:
        """Return the stand-ins. A pair without initial states has none, since no stretch can start from a state."""
        if self.network.stateless or self.network.case.batch is None:
            return []
        return self.network.stand_ins(lambda case: self.port, chaotic)

    def explain(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        """Return the lines of the diagnosis."""
        names: dict[Quantity, Quantity] = dict(zip(self.problem.output_names, OUTPUTS, strict=True))
        canonical = [replace(f, quantity=names.get(f.quantity, f.quantity)) for f in findings]
        return self.network.explain(lambda case: self._run, canonical)

    def _run(self, problem: Problem, dtype: str) -> Results:
        """Run the port on a problem of a case. A function that takes only x needs zero states."""
        if not self.network.stateless:
            return self.port(problem, dtype)
        x, states = problem.inputs
        if any(np.any(a) for a in states):
            raise CouldNotRun("it takes no initial states")
        wrt = tuple(name for name in problem.wrt if name not in INPUTS[1:])
        return self.port(replace(problem, inputs=(x,), input_names=("x",), wrt=wrt), dtype)


def as_lstm(problem: Problem, port: Run, truth: ReferenceRun, paths: Sequence[ReferenceRun]) -> LstmPair | None:
    """Return the pair as an LSTM; None if it is not an LSTM.

    It is an LSTM if its parameters are the state dict of a torch LSTM, its inputs are x or x, h and c, its outputs are
    y, h_n and c_n, and the reference computes the same numbers. Without states the canonical problem has zero states.
    """
    leaves = [np.asarray(a) for a in jax.tree.leaves(problem.inputs)]
    if len(leaves) not in (1, 3) or len(problem.output_names) != 3 or any(a.dtype.kind != "f" for a in leaves):
        return None
    try:
        network = read_network(dict(problem.params), "lstm")
    except (TypeError, ValueError):
        return None
    x = leaves[0]
    if x.ndim not in (2, 3) or x.shape[-1] != network.input_size:
        return None
    results = truth(problem)
    for time_major in (False, True):
        batched = x.ndim == 3
        batch = x.shape[1 if time_major else 0] if batched else None
        steps = x.shape[0 if time_major or not batched else 1]
        case = RecurrentCase("pair", "", batch, steps, **asdict(network), time_major=time_major, weights=problem.params)
        canonical = _canonical(case, problem, leaves)
        if canonical is not None and _is_same(case, canonical, problem, results, truth):
            measure = _at_other_sizes(truth, *paths)
            return LstmPair(Network(case, canonical, measure, stateless=len(leaves) == 1), port, problem)
    return None


def explain_without_pair(problem: Problem, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return how to get a diagnosis, if a model with an LSTM disagrees that is not an LSTM by itself."""
    has_lstm = bool(gate_slicings(problem.params))
    return (BY_ITSELF,) if has_lstm and any(f.final is Outcome.DISAGREE for f in findings) else ()


def _at_other_sizes(*runs: ReferenceRun) -> Measure:
    """Return a function that measures the torch module on problems of other sizes. Its own sizes may be fixed in it."""
    truth, *paths = (lambda problem, run=run: run_at_other_sizes(partial(run, problem)) for run in runs)
    return lambda case, problem: measure_reference(problem, truth, paths, seed=case.seed)


def _canonical(case: RecurrentCase, problem: Problem, leaves: Sequence[np.ndarray]) -> Problem | None:
    drawn = case.problem
    _, (h, c) = drawn.inputs
    states = leaves[1:] or [np.zeros_like(h), np.zeros_like(c)]
    if [np.shape(a) for a in states] != [h.shape, c.shape]:
        return None
    if [np.shape(a) for a in problem.cotangents] != [np.shape(a) for a in drawn.cotangents]:
        return None
    return replace(drawn, inputs=(leaves[0], tuple(states)), cotangents=problem.cotangents)


def _is_same(case: RecurrentCase, canonical: Problem, problem: Problem, truth: Results, run: ReferenceRun) -> bool:
    """Compare the whole sequence, or else a few steps: a chaotic network differs from itself after many."""
    if _is_equal(case, canonical, problem, truth):
        return True
    few, first = first_steps(case, canonical, FEW)
    leaves = [first.inputs[0], *jax.tree.leaves(problem.inputs)[1:]]
    short = replace(problem, inputs=problem.with_leaves(leaves), cotangents=first.cotangents, wrt=())
    try:
        return _is_equal(few, first, short, run_at_other_sizes(partial(run, short)))
    except (CouldNotRun, ValueError):  # such as packing with lengths that exceed these steps
        return False


def _is_equal(case: RecurrentCase, canonical: Problem, problem: Problem, truth: Results) -> bool:
    expected = truth_of(case, replace(canonical, wrt=()))
    return all(
        np.shape(truth[name]) == expected[known].shape
        and np.allclose(truth[name], expected[known], rtol=1e-9, atol=1e-9)
        for name, known in zip(problem.output_names, OUTPUTS, strict=True)
    )


def slicings_of(problem: Problem, pair: LstmPair | None, loops: bool) -> dict[Quantity, Slicing]:
    """Return the slices of a problem's quantities.

    Parameters with torch's LSTM names are sliced by gate. An array is sliced by time step if the pair is an LSTM. A 3-D
    array of any other pair is sliced along the axis that is as long as the longest axis of the inputs, if there is only
    one. Its slices are time steps if the port loops, and positions otherwise.
    """
    slicings = gate_slicings(problem.params)
    if pair is not None:
        users: list[Quantity] = [*problem.output_names, *map(Gradient, problem.input_names)]
        canonical: list[Quantity] = [*OUTPUTS, *map(Gradient, INPUTS)]
        names = dict(zip(canonical, users, strict=False))  # h0 and c0 may be missing
        return slicings | {names[name]: s for name, s in pair.network.problem.slicings.items() if name in names}
    arrays: list[tuple[Quantity, np.ndarray]] = [*zip(problem.output_names, problem.cotangents, strict=True)]
    arrays += [(Gradient(name), a) for name, a in problem.input_leaves.items() if name in problem.wrt]
    longest = longest_axis(problem.inputs)
    for name, a in arrays:
        axes = [n for n, size in enumerate(np.shape(a)[:-1]) if size == longest]
        if is_differentiable(a) and np.ndim(a) == 3 and longest > 1 and len(axes) == 1:
            slicings[name] = Slicing(axes[0], TIME if loops else POSITION)
    return slicings
