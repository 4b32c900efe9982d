"""The verdict on a pair: all checks, measurements inside the programs if they need them, and the notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from crosscheck.core.conditioning import Reference
from crosscheck.core.criterion import CRITERIA, NARROW
from crosscheck.core.environment import describe_environment
from crosscheck.core.finding import Finding, Outcome, Precision
from crosscheck.core.inside.measures import Measures
from crosscheck.core.judge import run_checks, settle
from crosscheck.core.port import Port
from crosscheck.core.problem import Problem, is_differentiable
from crosscheck.core.reference import in_precision, measure_reference
from crosscheck.core.verdict import Verdict
from crosscheck.diagnosis.causes import likely_cause
from crosscheck.diagnosis.patterns import pattern
from crosscheck.suite.grounds import little_compared
from crosscheck.suite.lstm_pair import as_lstm, explain_without_pair, slicings_of
from crosscheck.suite.precision_inside import inexact_notes, less_precise_at, type_findings, type_notes
from crosscheck.suite.preparation import SetUp
from crosscheck.suite.torch_side import TorchSide
from crosscheck.suite.trial import Trial, require_repeatable, trial_notes
from crosscheck.suite.unseen import not_shown


def judge(made: SetUp, dtypes: Sequence[Precision] = ("float64", "float32")) -> Verdict:
    """Return the verdict on a port."""
    problem, trial, port, side, seed = made.problem, made.trial, made.port, made.side, made.seed
    criteria = [criterion for dtype, criterion in CRITERIA.items() if dtype in dtypes]
    paths = [partial(side.in_dtype, dtype="float32", onednn=onednn) for onednn in (True, False)]
    paths.append(partial(side.in_dtype, dtype="float32", subnormal=False))
    pair = as_lstm(problem, port, side.truth, paths)
    steps = 1 if pair is None else pair.network.case.steps  # what a loop accumulates is measured inside
    problem = replace(problem, slicings=slicings_of(problem, pair, port.loops(problem)), steps=steps)
    reference = measure_reference(problem, side.truth, paths, seed=seed)
    reference = replace(reference, unused=frozenset(side.unused))
    again = [reference.truth[name] for name in trial.names]
    require_repeatable(trial, side.forward(problem) if side.lifts else again)
    notes = [f"torch gives no gradient for {name!r} (None); it counts as zero" for name in side.unused]
    notes += trial_notes(trial)
    notes += _silent(problem, trial)
    lines: tuple[str, ...] = ()
    if pair is None:
        stages = _measures(problem, reference, port, side, seed).stages
        findings = run_checks(problem, reference, port, criteria, stages=stages)
        lines = explain_without_pair(problem, findings)
    else:
        notes += pair.notes()
        checked = run_checks(problem, reference, port, criteria, stand_ins=pair.stand_ins)
        findings = (*pair.network.input_findings, *checked)
        lines = pair.explain(findings)
    findings = (*findings, *_narrow_checks(problem, reference, port, side, seed, dtypes))
    findings = (*settle(findings), *type_findings(port, trial))
    notes += [*type_notes(port, trial), *inexact_notes(side)]
    cause = _cause(port, problem, reference, findings, seed)
    verdict = Verdict(findings, tuple(notes), cause, lines, describe_environment())
    if not verdict:
        return verdict
    unseen = not_shown(problem, trial, side, seed, dtypes)
    return replace(verdict, not_shown=(*little_compared(findings), *unseen))


def _narrow_checks(
    problem: Problem, reference: Reference, port: Port, side: TorchSide, seed: int, dtypes: Sequence[Precision]
) -> list[Finding]:
    """Return the findings of the checks in bfloat16 and float16, if they are asked for."""
    findings: list[Finding] = []
    for criterion in (criterion for dtype, criterion in NARROW.items() if dtype in dtypes):
        known = in_precision(problem, reference, partial(side.in_dtype, dtype=criterion.dtype), criterion.tiny)
        stages = _measures(problem, known, port, side, seed).stages
        findings += run_checks(problem, known, port, [criterion], stages=stages)
    return findings


def _cause(port: Port, problem: Problem, reference: Reference, findings: Sequence[Finding], seed: int) -> str:
    """Return a likely cause of a disagreement; "" if nothing disagrees."""
    if all(f.final is not Outcome.DISAGREE for f in findings):
        return ""
    return (
        less_precise_at(port, problem, findings, seed)
        or pattern(problem, reference.truth, port(problem, "float64"), findings)
        or likely_cause(findings, reference)
    )


def _measures(problem: Problem, reference: Reference, port: Port, side: TorchSide, seed: int) -> Measures:
    constants = [side.with_moved_constants]
    if port.has_rounded_constants(problem):
        constants.append(port.with_moved_constants)
    return Measures(problem, reference, side.noisy, port.noisy, constants, seed)


def _silent(problem: Problem, trial: Trial) -> list[str]:
    """Return notes about outputs through which no gradient is compared, though torch gives one."""
    return [
        f"the cotangent of {name!r} is zero: no gradient through it is compared"
        for n, (name, cotangent) in enumerate(zip(problem.output_names, problem.cotangents, strict=True))
        if is_differentiable(trial.outputs[n]) and n not in trial.outputs_without_gradient and not np.any(cotangent)
    ]
