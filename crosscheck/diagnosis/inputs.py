"""Proof that inputs are not degenerate: would a mistake of layout show on them at all?

The reference is run with every such mistake of the fault catalogue: gate orders, transposed weights, biases dropped and
doubled, states ignored, swapped and in another order. Each has to change the outputs. This says more than that sizes
differ and that nothing is zero, and it holds where the model fixes an equality, as a layer of 128 inputs and 128 units.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.core.finding import Check, Finding, Kind, Outcome
from crosscheck.core.problem import Problem, Quantity, Results
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import Fault
from crosscheck.libraries import torch_ref
from crosscheck.lstm.cases import Case, RecurrentCase

STEPS = 6
SHOWS = 1e-9  # relative to the largest number of an output; rounding stays below, and a mistake is far above


def check_inputs(case: Case, problem: Problem, stateless: bool = False) -> tuple[Finding, ...]:
    """A vacuous finding where some mistakes would change nothing; ``stateless``: zero states are the model's own."""
    hidden = unseen_mistakes(case, problem, stateless)
    if not hidden:
        return ()
    text = f"degenerate: {len(hidden)} mistakes of layout would change no output here, such as {hidden[0].description}"
    advice = "draw random weights, inputs and states, different for each gate and row, and not zero"
    return (Finding("inputs", Check(None, Kind.INPUTS), Outcome.VACUOUS, None, None, note=f"{text}; {advice}"),)


def unseen_mistakes(case: Case, problem: Problem, stateless: bool = False) -> list[Fault]:
    """The mistakes of layout that leave every output as it is; those of biases, every gradient too.

    A bias that is zero, as one that was made of another library's single one, is shown by its gradient.
    """
    if not isinstance(case, RecurrentCase) or case.kind != "lstm":
        return []
    case, problem = _first_steps(case, problem)
    faults = [fault for fault in FAULTS.values() if fault.layout and fault.applies(case)]
    faults = [fault for fault in faults if fault.weights is not None or not stateless]
    hidden = _unseen(faults, case, replace(problem, wrt=()))
    biases = [fault for fault in hidden if "bias" in fault.needs]
    unseen = _unseen(biases, case, problem)
    return [fault for fault in hidden if fault not in biases or fault in unseen]


def _unseen(faults: list[Fault], case: RecurrentCase, problem: Problem) -> list[Fault]:
    """Those that change nothing of what the problem asks for."""
    true = torch_ref.runner(case)(problem, "float64")
    results = ((fault, faulty.runner(fault, case)(problem, "float64")) for fault in faults)
    return [fault for fault, wrong in results if not any(_shows(wrong, true, name) for name in true)]


def _shows(wrong: Results, true: Results, name: Quantity) -> bool:
    away = np.max(np.abs(wrong[name] - true[name]), initial=0.0)
    return not away <= SHOWS * np.max(np.abs(true[name]), initial=0.0)


def _first_steps(case: RecurrentCase, problem: Problem) -> tuple[RecurrentCase, Problem]:
    """The same weights, inputs and states over a few steps, which cost little and show as much."""
    x, states = problem.inputs
    steps = min(case.steps, STEPS)
    lengths = None if case.lengths is None else tuple(min(n, steps) for n in case.lengths)
    y, *last = problem.cotangents
    cut = lambda a: np.take(a, np.arange(steps), axis=case.time_axis)
    small = replace(case, steps=steps, lengths=lengths)
    return small, replace(problem, inputs=(cut(x), states), cotangents=(cut(y), *last))
