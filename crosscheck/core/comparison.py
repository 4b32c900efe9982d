"""The comparison of one result with the truth: every quantity is sliced, and the criterion is applied to each scope.

Names, shapes, dtypes, integers, and the positions of NaN and inf are compared here. What rounding explains is in
`crosscheck.core.criterion`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from crosscheck.core.conditioning import Conditioning, Reference
from crosscheck.core.criterion import Criterion
from crosscheck.core.finding import FLOAT64, SEVERITY, Finding, Grounds, Outcome, Reason, Rows
from crosscheck.core.norms import row_norms
from crosscheck.core.problem import Gradient, Problem, Quantity, Results, is_gradient
from crosscheck.core.reference import difference, slice_up
from crosscheck.core.row_notes import join_notes
from crosscheck.core.rows import judge_rows
from crosscheck.core.slices import OUTLIERS, WHOLE, Scope

OWN_LIMIT = "cannot fail: e_ref, which sets this limit, is this implementation's own error"

WIDE_ENOUGH = 4  # bytes of an integer: JAX gives int32 for torch's int64 unless x64 is on

Norms: TypeAlias = Callable[[np.ndarray], np.ndarray]  # [rows, numbers] -> [2 norms, rows]


class Comparer(Protocol):
    """What applies a criterion: `compare`, or one that is broken on purpose."""

    def __call__(
        self, problem: Problem, reference: Reference, result: Results, criterion: Criterion, note: str = ""
    ) -> list[Finding]: ...


def compare(
    problem: Problem,
    reference: Reference,
    result: Results,
    criterion: Criterion,
    note: str = "",
    norms: Norms = row_norms,
) -> list[Finding]:
    """Return one finding per scope of each quantity, in the truth's order.

    A name that only one of the two results has is a finding too.
    """
    findings: list[Finding] = []
    for name, truth in reference.truth.items():
        if name not in result:
            findings.append(_refused(name, criterion, "missing from the result", reason=Reason.NAMES))
        elif np.shape(result[name]) != np.shape(truth):
            findings.append(_refused(name, criterion, f"shape {np.shape(result[name])}, expected {np.shape(truth)}"))
        else:
            findings += _Comparison(problem, reference, name, result[name], criterion, note, norms).findings()
    extra = [name for name in result if name not in reference.truth]
    unknown = "the reference has no such quantity"
    return findings + [_refused(name, criterion, unknown, reason=Reason.NAMES) for name in extra]


def _refused(name: Quantity, criterion: Criterion, text: str, **details: Any) -> Finding:
    return Finding(name, criterion.check, Outcome.DISAGREE, None, None, note=text, **details)


class _Comparison:
    """One quantity of a result beside the truth."""

    def __init__(
        self,
        problem: Problem,
        reference: Reference,
        name: Quantity,
        got: np.ndarray,
        criterion: Criterion,
        note: str,
        norms: Norms,
    ) -> None:
        self.problem, self.reference, self.name, self.criterion, self.norms = problem, reference, name, criterion, norms
        self.note = join_notes(note, OWN_LIMIT * criterion.own_limit)
        self.dtype = got.dtype
        self.got = np.asarray(got, np.float64)
        self.truth = reference.truth[name]
        self.slicing = problem.slicings.get(name)

    def findings(self) -> list[Finding]:
        if _family(self.truth.dtype) != _family(self.dtype):
            text = f"came back as {self.dtype}; the reference gives {self.truth.dtype}"
            return [_refused(self.name, self.criterion, text, reason=Reason.DTYPE)]
        if self.truth.dtype.kind in "biu":
            return [self._integers()]
        if self._is_always_zero():
            return [self._zero()]
        mismatch = _nonfinite_mismatch(self.got, self.truth)
        if mismatch is not None and self._overflows():
            text = f"the reference itself is not finite in {self.criterion.dtype}"
            return [Finding(self.name, self.criterion.check, Outcome.INCONCLUSIVE, None, None, note=text)]
        if mismatch is not None:
            at = {"index": mismatch, "got": float(self.got[mismatch]), "expected": float(self.truth[mismatch])}
            text = "NaN or inf where the truth has none, or the reverse"
            return [_refused(self.name, self.criterion, text, reason=Reason.NOT_FINITE, **at)]
        findings = []
        if str(self.dtype) != self._expected_dtype():
            expected, check = self._expected_dtype(), self.criterion.check
            text = f"came back as {self.dtype}; torch gives {expected} in the {check} check"
            findings.append(_refused(self.name, self.criterion, text, reason=Reason.DTYPE))
        self.difference = difference(self.got, self.truth)
        for scope, rows in slice_up(self.difference, self.slicing, self.reference.outliers.get(self.name)).items():
            findings.append(self._judge(scope, rows, self.reference.conditioning[self.name][scope]))
        first = next((f.first_step for f in findings if f.first_step is not None), None)
        nothing = _why_nothing(self.truth)
        if nothing:
            findings = [replace(f, note=nothing) if f.verdict is Outcome.VACUOUS else f for f in findings]
        return [replace(f, first_step=first) if f.verdict is Outcome.DISAGREE else f for f in findings]

    def _expected_dtype(self) -> str:
        """Return the dtype of the check, or the narrower one that torch returned in it."""
        dtype = self.criterion.dtype
        own = self.reference.dtypes.get(self.name, dtype) if dtype != "float64" else dtype
        return dtype if own == "float64" else own

    def _overflows(self) -> bool:
        own = [known.own_error for known in self.reference.conditioning[self.name].values()]
        return self.criterion.dtype != "float64" and not all(np.isfinite(error).all() for error in own)

    def _is_always_zero(self) -> bool:
        """Return whether a gradient is zero, whatever the inputs.

        The reference has no path to it, or it is a Hessian-vector product that nothing moves, such as that of a last
        bias.
        """
        if not isinstance(self.name, Gradient) or self.truth.any():
            return False
        moved = self.reference.conditioning[self.name][WHOLE].response.any()
        return self.name.of in self.reference.unused or (self.name.order == 2 and not moved)

    def _zero(self) -> Finding:
        if not self.got.any():
            return Finding(
                self.name, self.criterion.check, Outcome.AGREE, 0.0, 0.0, norm=0.0, note="zero on both sides"
            )
        return _refused(self.name, self.criterion, "it is zero in torch, whatever the inputs, and not in the port")

    def _integers(self) -> Finding:
        """Compare integers and bools exactly. If rounding changes some of them, nothing can be decided."""
        check = self.criterion.check
        wrong = np.argwhere(self.got != self.truth)
        size = float(np.max(np.abs(self.truth.astype(np.float64)), initial=0.0))
        if not len(wrong):
            narrow = self.dtype.kind in "iu" and self.dtype.itemsize < min(self.truth.dtype.itemsize, WIDE_ENOUGH)
            text = f"came back as {self.dtype}; the reference gives {self.truth.dtype}" * narrow
            same = Finding(self.name, check, Outcome.AGREE, 0.0, 0.0, norm=size, note=join_notes(self.note, text))
            same = replace(same, grounds=Grounds.INTEGERS if narrow else None)
            return replace(same, own_limit=self.criterion.own_limit)
        if np.any(self.reference.conditioning[self.name][WHOLE].response > 0):
            text = "rounding of the inputs changes these integers"
            return Finding(self.name, check, Outcome.INCONCLUSIVE, None, None, norm=size, note=text)
        index = tuple(int(i) for i in wrong[0])
        at = {"index": index, "got": float(self.got[index]), "expected": float(self.truth[index])}
        text = f"{len(wrong)} of {self.truth.size} integers differ"
        return _refused(self.name, self.criterion, text, norm=size, **at)

    def _judge(self, scope: Scope, rows: np.ndarray, known: Conditioning) -> Finding:
        label: Callable[[int], str] = lambda row: str(scope) if scope == OUTLIERS else ""
        if self.slicing is not None and scope == self.slicing.scope:
            label = self.slicing.label
        distance = self.norms(rows)
        finding = judge_rows(self.name, scope, label, distance, known, self.criterion, self.problem.steps, self.note)
        if self.criterion.check == FLOAT64 and scope == self._finest:
            finding = replace(finding, too_small=self._too_small(finding.rows))
        return self._located(finding) if finding.verdict is Outcome.DISAGREE else finding

    @property
    def _finest(self) -> Scope:
        return WHOLE if self.slicing is None else self.slicing.scope

    def _too_small(self, rows: Rows | None) -> int:
        """Return how many numbers of the truth could all be zero within the limit. Only steady numbers count."""
        steady = self.reference.steady.get(self.name)
        if rows is None or steady is None:
            return 0
        sizes = np.where(steady & np.isfinite(self.truth), np.abs(self.truth), 0.0)
        sliced = slice_up(sizes, self.slicing, self.reference.outliers.get(self.name))[self._finest]
        return sum(
            _within(row[(row > 0) & (row <= reach)], reach) for row, reach in zip(sliced, rows.reach, strict=True)
        )

    def _located(self, finding: Finding) -> Finding:
        """Add where the difference is largest, and at which step it starts, in the order of computation."""
        index = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(self.difference)), self.difference.shape))
        first = None
        if self.slicing is not None and finding.scope.in_order and finding.rows is not None:
            wrong = np.flatnonzero(finding.rows.outcomes == SEVERITY.index(Outcome.DISAGREE))
            first = self.slicing.step(int(wrong[-1] if is_gradient(self.name) else wrong[0]))
        got, expected = float(self.got[index]), float(self.truth[index])
        return replace(finding, index=index, got=got, expected=expected, first_step=first)


def _within(sizes: np.ndarray, reach: float) -> int:
    """Return how many of the smallest numbers have a 2-norm of at most ``reach`` together."""
    return int(np.sum(np.sqrt(np.cumsum(np.sort(sizes) ** 2)) <= reach))


def _why_nothing(truth: np.ndarray) -> str:
    """Return why there is nothing to compare in an array without finite numbers; "" if it has some."""
    if truth.size == 0:
        return "the array is empty: nothing to compare"
    return "every number of the truth is NaN: nothing to compare" if np.isnan(truth).all() else ""


def _family(dtype: np.dtype[Any]) -> str:
    """Return "bool", "integer" or "floating"."""
    return {"b": "bool", "i": "integer", "u": "integer"}.get(dtype.kind, "floating")


def _nonfinite_mismatch(got: np.ndarray, truth: np.ndarray) -> tuple[int, ...] | None:
    """Return the first index at which only one is finite, or both are infinite or NaN and differ."""
    same = (np.isnan(got) == np.isnan(truth)) & ((got == truth) | np.isfinite(got) | np.isnan(got))
    same &= np.isfinite(got) == np.isfinite(truth)
    if same.all():
        return None
    return tuple(int(i) for i in np.argwhere(~same)[0])
