"""A named case with its reference, and the verdict on any implementation of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import crosscheck.libraries.jax_lstm  # noqa: F401  a package that it needs is then named before any work
from crosscheck.core.conditioning import Reference, ReferenceRun
from crosscheck.core.criterion import CRITERIA, Criterion
from crosscheck.core.environment import describe_environment
from crosscheck.core.finding import Finding
from crosscheck.core.judge import StandIn, run_checks
from crosscheck.core.problem import Problem, Quantity
from crosscheck.core.reference import measure_reference
from crosscheck.core.verdict import Verdict
from crosscheck.diagnosis.causes import likely_cause
from crosscheck.libraries import STANDARD, Implementation
from crosscheck.lstm.cases import Case, RecurrentCase
from crosscheck.suite.network import Network

OF_TORCH = ("torch.nn.LSTM", "torch.nn.LSTM/native")  # one program in float64, which oneDNN does not have


@dataclass(frozen=True)
class MeasuredCase:
    """A case and its reference. What several implementations need is computed once, when it is first needed."""

    case: Case
    reference: Reference

    @cached_property
    def network(self) -> Network | None:
        """The network, if the case is one."""
        case = self.case
        return Network(case, case.problem, measure_problem) if isinstance(case, RecurrentCase) else None

    @property
    def input_findings(self) -> tuple[Finding, ...]:
        """What the check of the inputs found."""
        return () if self.network is None else self.network.input_findings

    def stand_ins(self, implementation: Implementation, chaotic: bool) -> Sequence[StandIn]:
        """Return the stand-ins for one implementation. An implementation without gradients has none."""
        if self.network is None or not implementation.gradients:
            return []
        return self.network.stand_ins(implementation.runner, chaotic, partial(criteria_of, implementation))


def truth_of(case: Case) -> str:
    """Return the name of the implementation whose float64 results are the truth of a case.

    It is torch.nn.LSTM, or torch_ref for a case with a row of length 0, which torch refuses.
    """
    empty_row = isinstance(case, RecurrentCase) and case.lengths is not None and 0 in case.lengths
    return "torch_ref" if empty_row else "torch.nn.LSTM"


def is_truth(implementation: Implementation, case: Case) -> bool:
    """Return whether an implementation is the truth of a case, or another name of the same program."""
    names = OF_TORCH if truth_of(case) in OF_TORCH else (truth_of(case),)
    return implementation.name in names


def criteria_of(implementation: Implementation, case: Case) -> tuple[Criterion, ...]:
    """Return the precision checks of an implementation. The truth is not compared with itself."""
    known = [criterion for criterion in CRITERIA.values() if criterion.dtype in implementation.dtypes]
    return tuple(c for c in known if not (c.dtype == "float64" and is_truth(implementation, case)))


def measure_problem(case: Case, problem: Problem) -> Reference:
    """Return the reference of a problem of a case's network.

    e_ref is the larger error of torch.nn.LSTM's two float32 paths on CPU: oneDNN's and torch's native one.
    """
    truth, torch_nn = STANDARD[truth_of(case)].runner(case), STANDARD["torch.nn.LSTM"].runner(case)
    paths: list[ReferenceRun] = [partial(torch_nn, dtype="float32", onednn=onednn) for onednn in (True, False)]
    return measure_reference(problem, partial(truth, dtype="float64"), paths, seed=case.seed)


def measure_case(case: Case) -> MeasuredCase:
    """Return a case with its reference."""
    return MeasuredCase(case, measure_problem(case, case.problem))


def assess_implementation(measured: MeasuredCase, implementation: Implementation, explain: bool = True) -> Verdict:
    """Return the verdict on one implementation.

    Args:
      measured: the case.
      implementation: what is judged.
      explain: look for the mistake if it disagrees. This takes a while.

    Raises:
      NotSupported: the implementation does not support the case.
      NotInstalled: a library of the implementation is not installed.
    """
    findings = (*measured.input_findings, *check_implementation(measured, implementation))
    lines: tuple[str, ...] = ()
    if explain and implementation.gradients and measured.network is not None:
        lines = measured.network.explain(implementation.runner, findings)
    notes, cause = _notes(implementation, measured.case), likely_cause(findings, measured.reference)
    return Verdict(findings, tuple(notes), cause, lines, describe_environment())


def check_implementation(measured: MeasuredCase, implementation: Implementation) -> tuple[Finding, ...]:
    """Return only the findings of all precision checks.

    Raises:
      NotSupported: the implementation does not support the case.
      NotInstalled: a library of the implementation is not installed.
    """
    case, problem, reference = measured.case, measured.case.problem, measured.reference
    if not implementation.gradients:
        problem, reference = only_outputs(problem, reference)
    sets_limit = implementation.name in OF_TORCH  # e_ref is measured on its float32 check
    checks = criteria_of(implementation, case)
    criteria = [replace(c, own_limit=sets_limit and c.dtype == "float32") for c in checks]
    stand_ins = partial(measured.stand_ins, implementation)
    run = implementation.runner(case)
    return run_checks(problem, reference, run, criteria, stand_ins, is_truth(implementation, case))


def _notes(implementation: Implementation, case: Case) -> list[str]:
    notes = []
    if is_truth(implementation, case):
        notes.append("in float64 this implementation is the truth of this case; the float64 check has nothing to judge")
    if "float64" not in implementation.dtypes:
        notes.append(f"{implementation.name} does not compute in float64: only the float32 check ran")
    if not implementation.gradients:
        notes.append(f"{implementation.name} has no gradients: only outputs are compared")
    return notes


def only_outputs(problem: Problem, reference: Reference) -> tuple[Problem, Reference]:
    """Return a problem and its reference without gradients."""
    outputs: set[Quantity] = set(problem.output_names)
    truth = {name: value for name, value in reference.truth.items() if name in outputs}
    conditioning = {name: scopes for name, scopes in reference.conditioning.items() if name in outputs}
    without = replace(reference, truth=truth, conditioning=conditioning, loss_scaled=None)
    return replace(problem, wrt=()), without
