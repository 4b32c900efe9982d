"""Where a port first departs from the reference: time step, layer, direction and gate; and the same backward in time.

Every step of the sequence is run alone, from the reference's own states, all at once. A step that is wrong there is
wrong by itself. Where all single steps are right and the sequence is not, the place is read off the sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crosscheck.core.finding import Finding, Outcome
from crosscheck.core.problem import Gradient, Quantity, is_gradient
from crosscheck.diagnosis.gates import WORDS, wrong_gates
from crosscheck.diagnosis.in_sequence import wrong_gates_at
from crosscheck.diagnosis.port import WRONG, Port, off, truth
from crosscheck.lstm.gates import GATES, gate_slicings
from crosscheck.lstm.teacher_forcing import teacher_forced

LONGEST_STRETCH = 16
ALONE = "each single step, run alone from the reference's states, is right"


@dataclass(frozen=True)
class Place:
    """step, layer and suffix ("" or "_reverse") of the first departure, and what of the cell is wrong there.

    Empty or None where it could not be told. ``text`` says it, and what was tried.
    """

    text: str
    step: int | None = None
    layer: int | None = None
    suffix: str | None = None
    gates: tuple[str, ...] = ()


def forward_place(port: Port, findings: Sequence[Finding], dtype: str) -> Place:
    """Of a port with a wrong output."""
    if port.stateless:
        return _within_the_sequence(port, findings, dtype)
    case, problem = teacher_forced(port.case, port.problem, 1)
    try:
        result = port.run(case, problem, dtype)
    except Exception:  # it has its batch size written into it
        return _within_the_sequence(port, findings, dtype)
    true = truth(case, problem)
    rows = port.case.layers_and_directions()
    cut = problem.slicings["h_n"]
    wrong = np.zeros((len(rows), len(cut.labels)), bool)
    for name in (f"{s}_n" for s in case.state_names):
        for n in range(len(rows)):
            away = off(result[name][n], true[name][n], axis=0).reshape(len(cut.labels), -1).max(1)
            wrong[n] |= ~(away <= WRONG[dtype])
    if not wrong.any():
        return _within_the_sequence(port, findings, dtype, f"{ALONE}, ")
    layer = rows[int(np.flatnonzero(wrong.any(1))[0])][0]
    n = next(n for n, row in enumerate(rows) if row[0] == layer and wrong[n].any())
    where = np.flatnonzero(wrong[n])
    step = cut.step(int(where[-1] if rows[n][1] else where[0]))
    found = wrong_gates(port, case, problem, n, dtype) if case.kind == "lstm" else []
    names = " and ".join(WORDS[gate] for gate in found)
    how = f"{where.size} of {wrong.shape[1]} steps are wrong when run alone from the reference's states"
    return _place(port, step, n, found, names, how)


def _within_the_sequence(port: Port, findings, dtype, alone="") -> Place:
    step = next((f.first_step for f in findings if f.quantity == "y" and f.first_step is not None), None)
    if step is None:
        return Place(f"{alone}no step of y is wrong: states are arranged wrongly, rather than computed wrongly")
    found = None
    if port.case.kind == "lstm" and port.case.batch is not None:
        found = wrong_gates_at(port, port.problem, step, dtype)
    if found is None:
        return Place(f"first wrong at step {step}; {alone}and so is a sequence that ends at that step", step)
    row, gates = found
    names = " or ".join(WORDS[gate] for gate in gates)
    return _place(port, step, row, gates, names, f"{alone}read off random sequences that end at that step")


def _place(port: Port, step: int, row: int, gates: Sequence[str], names: str, how: str) -> Place:
    layer, suffix = port.case.layers_and_directions()[row]
    where = f"step {step}, layer {layer}, {'reverse' if suffix else 'forward'} direction"
    return Place(f"first wrong at {where}: {names or 'the new state'} ({how})", step, layer, suffix, tuple(gates))


def backward_place(port: Port, findings: Sequence[Finding], dtype: str) -> Place:
    """Of a port whose outputs are right and whose gradients are not."""
    bad = [f for f in findings if f.final is Outcome.DISAGREE and is_gradient(f.quantity)]
    step = next((f.first_step for f in bad if f.first_step is not None), None)
    at = "" if step is None else f"going back, the gradient of x is first wrong at step {step}; "
    sizes: Sequence[int] = () if port.stateless else range(1, min(port.case.steps, LONGEST_STRETCH) + 1)
    for size in sizes:
        case, problem = teacher_forced(port.case, port.problem, size)
        try:
            result = port.run(case, problem, dtype)
        except Exception:  # it has its batch size written into it
            sizes = ()
            break
        true = truth(case, problem)
        wrong = [n for n in true if is_gradient(n) and not off(result[n], true[n]) <= 10 * size * WRONG[dtype]]
        if wrong:
            gates = _wrong_blocks(problem.params, wrong, result, true, dtype)
            within = "already within a single step" if size == 1 else f"first within windows of {size} steps"
            text = f"{at}{within}: {', '.join(_proportion(n, result[n], true[n]) for n in wrong[:6])}"
            text += f"; gates {', '.join(gates)}" * bool(gates)
            return Place(text, step, gates=tuple(gates))
    names = ", ".join(dict.fromkeys(str(f.quantity) for f in bad[:6]))
    within = f"windows of up to {LONGEST_STRETCH} steps are right; " * bool(sizes)
    return Place(f"{at}{within}over the whole sequence {names} differ", step)


def _proportion(name: Quantity, got: np.ndarray, expected: np.ndarray) -> str:
    """The name, and the factor where the gradient is a multiple of the true one."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if not np.isfinite(got).all():
        return f"{name} holds NaN or inf"
    if not got.any():
        return f"{name} is zero"
    factor = float(np.vdot(expected, got) / np.vdot(expected, expected))
    if np.max(np.abs(got - factor * expected)) <= 1e-6 * np.max(np.abs(got)):
        return f"{name} is {factor:.6g} times the true one"
    return str(name)


def _wrong_blocks(params, wrong, result, true, dtype) -> list[str]:
    """Gates whose blocks are wrong in some weight or bias gradient, where not all of them are."""
    bad: set[str] = set()
    for name, cut in gate_slicings(params).items():
        gradient = Gradient(name)
        if gradient in wrong:
            blocks = zip(cut.rows(result[gradient]), cut.rows(true[gradient]), GATES, strict=True)
            bad |= {gate for got, expected, gate in blocks if not off(got, expected) <= 100 * WRONG[dtype]}
    return [gate for gate in GATES if gate in bad] if len(bad) < 4 else []
