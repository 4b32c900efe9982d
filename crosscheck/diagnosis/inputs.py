"""The check of the inputs: would a mistake of layout show on them?

The reference runs with every mistake of layout in the catalogue: gate orders, transposed weights, biases left out and
doubled, states ignored, swapped and in another order. Each mistake must change the outputs. This finds more than the
rule that sizes must differ and that nothing may be zero. It also works if the model has equal sizes, such as 128 inputs
and 128 units.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.core.finding import Check, Finding, Kind, Outcome
from crosscheck.core.problem import Problem, Quantity, Results
from crosscheck.diagnosis.subject import truth
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import Fault
from crosscheck.lstm.cases import Case, RecurrentCase

STEPS = 6
SHOWS = 1e-9  # relative to the largest number of an output: rounding is far below, a mistake far above


def check_inputs(case: Case, problem: Problem, stateless: bool = False) -> tuple[Finding, ...]:
    """Return a vacuous finding if some mistakes of layout change nothing.

    Args:
      case: the network.
      problem: the inputs.
      stateless: whether the model takes no initial states, so that zero states are right.
    """
    hidden = unseen_mistakes(case, problem, stateless)
    if not hidden:
        return ()
    text = f"degenerate: {len(hidden)} mistakes of layout change no output here, such as {hidden[0].description}"
    advice = "draw random weights, inputs and states that are not zero and differ between gates and rows"
    return (Finding("inputs", Check(None, Kind.INPUTS), Outcome.VACUOUS, None, None, note=f"{text}; {advice}"),)


def unseen_mistakes(case: Case, problem: Problem, stateless: bool = False) -> list[Fault]:
    """Return the mistakes of layout that change no output; for mistakes of biases, also no gradient.

    A bias may be zero, such as the second one of a library with a single bias. Its gradient shows the mistake.
    """
    if not isinstance(case, RecurrentCase) or case.kind != "lstm":
        return []
    case, problem = first_steps(case, problem, STEPS)  # they cost little and show as much
    faults = [fault for fault in FAULTS.values() if fault.layout and fault.applies(case)]
    faults = [fault for fault in faults if fault.weights is not None or not stateless]
    hidden = _unseen(faults, case, replace(problem, wrt=()))
    biases = [fault for fault in hidden if "bias" in fault.needs]
    unseen = _unseen(biases, case, problem)
    return [fault for fault in hidden if fault not in biases or fault in unseen]


def _unseen(faults: list[Fault], case: RecurrentCase, problem: Problem) -> list[Fault]:
    """Return the faults that change nothing of what the problem asks for."""
    true = truth(case, problem)
    results = ((fault, faulty.runner(fault, case)(problem, "float64")) for fault in faults)
    return [fault for fault, wrong in results if not any(_shows(wrong, true, name) for name in true)]


def _shows(wrong: Results, true: Results, name: Quantity) -> bool:
    away = np.max(np.abs(wrong[name] - true[name]), initial=0.0)
    return not away <= SHOWS * np.max(np.abs(true[name]), initial=0.0)


def first_steps(case: RecurrentCase, problem: Problem, most: int) -> tuple[RecurrentCase, Problem]:
    """Return the first few steps of a problem."""
    steps = min(case.steps, most)
    lengths = None if case.lengths is None else tuple(min(n, steps) for n in case.lengths)
    x, y = (np.take(a, np.arange(steps), axis=case.time_axis) for a in (problem.inputs[0], problem.cotangents[0]))
    small = replace(problem, inputs=(x, *problem.inputs[1:]), cotangents=(y, *problem.cotangents[1:]))
    return replace(case, steps=steps, lengths=lengths), small
