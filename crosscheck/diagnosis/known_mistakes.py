"""The mistake by name: the reference runs with every fault of the catalogue and in every convention.

A match is exact: every output and every gradient of the implementation equals the faulty reference's within rounding.
Reduced precision has no exact match, since products may be summed in any order. In this case the nearest faults are
named, if they are much nearer than the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from crosscheck.core.problem import Problem, Results
from crosscheck.diagnosis.subject import Subject, relative_error, truth
from crosscheck.discovery.conventions import CONVENTIONS, Convention
from crosscheck.faults import faulty
from crosscheck.faults.catalogue import FAULTS
from crosscheck.faults.fault import Fault, Params, Wrong, wrong_outputs
from crosscheck.lstm.cases import RecurrentCase

EXACT = 1e-9
NEAREST = 0.3  # share of the distance to the truth
TIE = 0.05  # TF32 and float16 round to the same ten bits
STEPS, ROWS, MOST_ROWS = 6, 3, 8  # up to 8 rows stay as they are: their number may be written into the implementation
MOST = 3  # sentences


def find_mistakes(subject: Subject, dtype: str, factor: float = 1.0) -> list[str]:
    """Return at most three sentences that name the mistake.

    Args:
      subject: the implementation.
      dtype: the dtype of the run.
      factor: the factor of the cotangents, for mistakes that only large cotangents show.
    """
    case, problem = small_problem(subject)
    problem = problem.scaled(factor)
    got = subject.run(case, problem, dtype)
    if dtype == "float32":
        return _nearest(case, problem, got)
    true = truth(case, problem)
    if _equal(got, true):
        return []
    outputs_wrong = not all(_same(got[name], true[name]) for name in problem.output_names)
    alike = list(_alike(FAULTS.values(), case, problem, got))
    alike = alike or list(_alike(_conventions(), case, problem, got))
    exact = [f"behaves exactly like {fault.description}" for fault, gradients in alike if gradients]
    outputs = [f"computes the outputs of {fault.description}, and other gradients" for fault, _ in alike]
    return (exact or outputs * outputs_wrong)[:MOST]


def small_problem(subject: Subject) -> tuple[RecurrentCase, Problem]:
    """Return a small problem of the same network and weights: few steps, few rows, random inputs."""
    case = subject.case
    steps = min(case.steps, STEPS)
    batch = case.batch if case.batch is None or case.batch <= MOST_ROWS else ROWS
    lengths = None
    if case.lengths is not None and batch is not None:
        lengths = tuple(max(1, round(n * steps / case.steps)) if n else 0 for n in case.lengths[:batch])
    small = replace(case, batch=batch, steps=steps, lengths=lengths, loss="all", weights=subject.problem.params)
    return small, subject.draw(small)


def _alike(
    faults: Iterable[Fault], case: RecurrentCase, problem: Problem, got: Results
) -> Iterator[tuple[Fault, bool]]:
    """Yield the faults with the same outputs, and whether gradients are the same too."""
    for fault in faults:
        if fault.precision == "float32" or not fault.applies(case):
            continue
        run = faulty.runner(fault, case)
        try:
            if fault.kind is Wrong.OUTPUTS and not _equal(got, run(replace(problem, wrt=()), "float64")):
                continue
            gradients = _equal(got, run(problem, "float64"), len(got))
        except ValueError:  # a convention that the shapes do not allow
            continue
        if gradients or fault.kind is Wrong.OUTPUTS:
            yield fault, gradients


def _equal(got: Results, faulty_results: Results, at_least: int = 0) -> bool:
    names = [name for name in faulty_results if name in got]
    return len(names) >= at_least and all(_same(got[name], faulty_results[name]) for name in names)


def _same(got: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays agree within rounding, with NaN at the same places."""
    odd = np.isnan(got)
    if not np.array_equal(odd, np.isnan(other)):
        return False
    return relative_error(np.where(odd, 0.0, got), np.where(odd, 0.0, other)) <= EXACT


def _conventions() -> Iterator[Fault]:
    for convention in CONVENTIONS:
        if not convention.is_torch:
            yield wrong_outputs(str(convention), str(convention), weights=partial(_read, convention))


def _read(convention: Convention, params: Params, case: RecurrentCase) -> Params:
    """Read every layer and direction in one convention."""
    result = dict(params)
    for layer, suffix in case.layers_and_directions():
        end = f"_l{layer}{suffix}"
        cell = {name.removesuffix(end): a for name, a in params.items() if name.endswith(end)}
        result |= {name + end: a for name, a in convention.read(cell).items()}
    return result


def _nearest(case: RecurrentCase, problem: Problem, got: Results) -> list[str]:
    """Name the faults of precision to which the wrong quantities are nearest."""
    true = truth(case, problem)
    away = {name: relative_error(got[name], true[name]) for name in true if name in got}
    wrong = sorted(away, key=lambda name: -away[name])[: max(1, len(away) // 2)]
    near = {}
    for fault in FAULTS.values():
        if fault.precision == "float32" and fault.applies(case):
            results = faulty.runner(fault, case)(problem, "float32")
            ratios = [relative_error(got[n], results[n]) / away[n] for n in wrong if away[n] > 0]
            near[fault.name] = float(np.median(ratios))
    best = min(near.values(), default=1.0)
    alike = [name for name in near if near[name] <= min(NEAREST, best + TIE)]
    return [f"is near to {FAULTS[n].description}: at {near[n]:.2g} of its distance to the truth" for n in alike[:MOST]]
