"""Where an implementation first departs from the reference, forward and backward: time step, layer, direction, gate.

Every step of the sequence starts from the reference's own states, and all steps run at once. A step that is wrong then
is wrong by itself. If all single steps are right and the sequence is not, the place is found in the sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crosscheck.core.errors import OnlyOwnSizes
from crosscheck.core.finding import Finding, Outcome
from crosscheck.core.problem import Quantity, Results, is_gradient
from crosscheck.diagnosis.in_sequence import wrong_gates_at
from crosscheck.diagnosis.single_step import CELL_PARTS, CellPart, wrong_gates
from crosscheck.diagnosis.subject import WRONG, Subject, relative_error, relative_errors, truth
from crosscheck.lstm.gates import GATES, gate_slicings
from crosscheck.lstm.teacher_forcing import teacher_forced

LONGEST_STRETCH = 16
STEPS_ARE_RIGHT = "every single step is right if it starts from the reference's states; "


@dataclass(frozen=True)
class Departure:
    """The first departure from the reference.

    Attributes:
      text: the departure in words, with what was tried.
      step: the time step; None if it is not known.
      layer: the layer; None if it is not known.
      suffix: the direction, "" or "_reverse"; None if it is not known.
      gates: the parts of the cell that are wrong there; empty if they are not known.
    """

    text: str
    step: int | None = None
    layer: int | None = None
    suffix: str | None = None
    gates: tuple[CellPart, ...] = ()


def first_departure_forward(subject: Subject, findings: Sequence[Finding], dtype: str) -> Departure:
    """Return the first departure of an implementation with a wrong output."""
    if subject.stateless:
        return _within_the_sequence(subject, findings, dtype)
    case, problem = teacher_forced(subject.case, subject.problem, 1)
    try:
        result = subject.run(case, problem, dtype)
    except OnlyOwnSizes:
        return _within_the_sequence(subject, findings, dtype)
    true = truth(case, problem)
    rows = subject.case.layers_and_directions()
    slicing = problem.slicings["h_n"]
    wrong = np.zeros((len(rows), len(slicing.labels)), bool)
    for name in (f"{s}_n" for s in case.state_names):
        for n in range(len(rows)):
            errors = relative_errors(result[name][n], true[name][n], len(slicing.labels))
            wrong[n] |= ~(errors <= WRONG[dtype])
    if not wrong.any():
        return _within_the_sequence(subject, findings, dtype, STEPS_ARE_RIGHT)
    layer = rows[int(np.flatnonzero(wrong.any(1))[0])][0]
    n = next(n for n, row in enumerate(rows) if row[0] == layer and wrong[n].any())
    steps = np.flatnonzero(wrong[n])
    step = slicing.step(int(steps[-1] if rows[n][1] else steps[0]))
    parts = wrong_gates(subject, case, problem, n, dtype) if case.kind == "lstm" else []
    names = " and ".join(CELL_PARTS[part] for part in parts)
    how = f"{steps.size} of {wrong.shape[1]} steps are wrong if each starts from the reference's states"
    return _departure(subject, step, n, parts, names, how)


def _within_the_sequence(subject: Subject, findings: Sequence[Finding], dtype: str, known: str = "") -> Departure:
    of_y = [f for f in findings if f.quantity == "y" and f.final is Outcome.DISAGREE]
    step = next((f.first_step for f in of_y if f.first_step is not None), None)
    if step is None and of_y:  # NaN or inf has a place, but no error per step
        return Departure(f"{known}the first wrong step of y is not known")
    if step is None:
        return Departure(f"{known}no step of y is wrong: states are not computed wrongly, but in the wrong place")
    found = None
    if subject.case.kind == "lstm" and subject.case.batch is not None:
        found = wrong_gates_at(subject, step, dtype)
    if found is None:
        return Departure(f"first wrong at step {step}; {known}a sequence that ends at this step is right too", step)
    row, parts = found
    names = " or ".join(CELL_PARTS[part] for part in parts)
    return _departure(subject, step, row, parts, names, f"{known}found with random sequences that end at this step")


def _departure(subject: Subject, step: int, row: int, parts: Sequence[CellPart], names: str, how: str) -> Departure:
    layer, suffix = subject.case.layers_and_directions()[row]
    place = f"step {step}, layer {layer}, {'reverse' if suffix else 'forward'} direction"
    return Departure(f"first wrong at {place}: {names or 'the new state'} ({how})", step, layer, suffix, tuple(parts))


def first_departure_backward(subject: Subject, findings: Sequence[Finding], dtype: str) -> Departure:
    """Return the first departure, backward in time, of an implementation with right outputs and wrong gradients."""
    bad = [f for f in findings if f.final is Outcome.DISAGREE and is_gradient(f.quantity)]
    step = next((f.first_step for f in bad if f.first_step is not None), None)
    at = "" if step is None else f"backward in time, the gradient of x is first wrong at step {step}; "
    right = ""
    for size in () if subject.stateless else range(1, min(subject.case.steps, LONGEST_STRETCH) + 1):
        case, problem = teacher_forced(subject.case, subject.problem, size)
        try:
            result = subject.run(case, problem, dtype)
        except OnlyOwnSizes:
            right = ""
            break
        true = truth(case, problem)
        limit = 10 * size * WRONG[dtype]
        wrong = [n for n in true if is_gradient(n) and not relative_error(result[n], true[n]) <= limit]
        if wrong:
            gates = _wrong_blocks(problem.params, wrong, result, true, dtype)
            within = "already within a single step" if size == 1 else f"first within stretches of {size} steps"
            text = f"{at}{within}: {', '.join(_proportion(n, result[n], true[n]) for n in wrong[:6])}"
            text += f"; gates {', '.join(gates)}" * bool(gates)
            return Departure(text, step, gates=tuple(gates))
        right = f"stretches of up to {size} steps are right; "
    names = ", ".join(dict.fromkeys(str(f.quantity) for f in bad[:6]))
    return Departure(f"{at}{right}over the whole sequence {names} differ", step)


def _proportion(name: Quantity, got: np.ndarray, expected: np.ndarray) -> str:
    """Return the name, and the factor if the gradient is a multiple of the true one."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if not np.isfinite(got).all():
        return f"{name} holds NaN or inf"
    if not got.any():
        return f"{name} is zero"
    factor = float(np.vdot(expected, got) / np.vdot(expected, expected))
    if np.max(np.abs(got - factor * expected)) <= 1e-6 * np.max(np.abs(got)):
        return f"{name} is {factor:.6g} times the true one"
    return str(name)


def _wrong_blocks(
    params: Mapping[str, np.ndarray], wrong: Sequence[Quantity], result: Results, true: Results, dtype: str
) -> list[CellPart]:
    """Return the gates whose blocks are wrong in some weight or bias gradient; no gates if all four are wrong."""
    bad: set[CellPart] = set()
    for gradient, slicing in gate_slicings(params).items():
        if gradient in wrong:
            blocks = zip(slicing.rows(result[gradient]), slicing.rows(true[gradient]), GATES, strict=True)
            bad |= {gate for got, expected, gate in blocks if not relative_error(got, expected) <= 100 * WRONG[dtype]}
    return [gate for gate in GATES if gate in bad] if len(bad) < 4 else []
