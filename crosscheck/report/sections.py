"""The sections of a page about one verdict: words, drawings, and every finding with its error and limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from crosscheck.core.finding import SEVERITY, Check, Finding, Outcome
from crosscheck.core.slices import TIME
from crosscheck.core.verdict import Verdict
from crosscheck.core.verdict_text import check_text, finding_text, settled_text
from crosscheck.lstm.gates import GATE
from crosscheck.report.page import Figure, Fold, Section, Words
from crosscheck.report.plots import BINS, curve, heat_map, number
from crosscheck.report.table import TONES, Cell, Table, outcome_cell


def verdict_sections(verdict: Verdict, whose: str = "", drawn: bool = True, opened: bool = True) -> tuple[Section, ...]:
    """Return diagnosis, words, drawings, and all findings behind a line.

    Args:
      verdict: the verdict.
      whose: the implementation, which stands before each title.
      drawn: whether there are drawings.
      opened: whether the drawings of the worst quantity are open.
    """
    sections: list[Section] = [Words(_titled(whose, "what was found"), str(replace(verdict, diagnosis=())))]
    if verdict.diagnosis:
        sections.insert(0, Words(_titled(whose, "diagnosis"), "\n".join(verdict.diagnosis)))
    if drawn:
        sections += drawings(verdict.findings, whose, opened)
    return (*sections, findings_fold(verdict.findings, whose))


def drawings(findings: Sequence[Finding], whose: str = "", opened: bool = True) -> list[Fold]:
    """Return each quantity's error against t, then all gradients by gate, in every precision check.

    Quantities without slices have no drawing. The drawing of the worst quantity is open, if ``opened``.
    """
    steps = [f for f in findings if f.rows is not None and f.scope == TIME]
    gates = [f for f in findings if f.rows is not None and f.scope == GATE]
    folds = {
        name: drawn_fold(_titled(whose, f"{name}, error against t"), curves(mine), mine)
        for name in dict.fromkeys(f.quantity for f in steps)
        for mine in [[f for f in steps if f.quantity == name]]
    }
    if gates:
        maps = [Figure(str(c), heat_map(same), _heat_caption(same)) for c, same in _by_check(gates)]
        fold = drawn_fold(_titled(whose, "gradients by gate"), maps, gates)
        folds |= {f.quantity: fold for f in gates}
    worst_one = worst_drawn(findings)
    opening = folds[worst_one.quantity] if opened and worst_one else None
    return [replace(fold, open=fold is opening) for fold in {id(fold): fold for fold in folds.values()}.values()]


def curves(findings: Sequence[Finding], notes: Mapping[Check, str] | None = None) -> list[Figure]:
    """Return the error of one quantity in each precision check. ``notes`` stand below the curve of a check."""
    drawn = []
    for check, same in _by_check(findings):
        caption = "\n".join(filter(None, (_curve_caption(same), (notes or {}).get(check, ""))))
        drawn.append(Figure(str(check), curve(same), caption))
    return drawn


def drawn_fold(title: str, figures: Sequence[Figure], judged: Sequence[Finding]) -> Fold:
    """Return drawings behind a line that states the gravest of the findings."""
    first = max(judged, key=gravity)
    decided = first.error is not None and first.limit
    notes = (f"{number(first.ratio)} × limit",) if decided else ()
    return Fold(title, tuple(figures), outcome_cell(first.final), notes)


def worst_drawn(findings: Sequence[Finding]) -> Finding | None:
    """Return the gravest finding among the quantities that have a drawing."""
    names = {f.quantity for f in findings if f.rows is not None and f.scope in (TIME, GATE)}
    judged = [f for f in findings if f.quantity in names]
    return max((f for f in judged if not f.own_limit), key=gravity, default=judged[0] if judged else None)


def gravity(finding: Finding | None) -> tuple[int, bool, float]:
    """Return a key that orders findings by outcome, then by error / limit. None and settled findings come first."""
    if finding is None:
        return (-1, False, 0.0)
    return SEVERITY.index(finding.final), not finding.settled_by, finding.ratio


def _by_check(findings: Sequence[Finding]) -> list[tuple[Check, list[Finding]]]:
    checks = sorted({f.check for f in findings}, key=lambda check: (check.stands_in, str(check)))
    return [(check, [f for f in findings if f.check == check]) for check in checks]


def _heat_caption(findings: Sequence[Finding]) -> str:
    text = "Each block's error in units of its limit, in the 2-norm."
    if any(f.verdict is Outcome.DISAGREE for f in findings):
        text += " Blocks in a frame disagree."
    worst = max(findings, key=lambda f: (SEVERITY.index(f.verdict), f.ratio))
    return f"{text} Worst in either norm:\n  {finding_text(worst)}"


def _curve_caption(findings: Sequence[Finding]) -> str:
    text = "In the 2-norm, relative to the truth's norm in the same step. "
    longest = max(f.rows.error.size for f in findings if f.rows is not None)
    if longest > BINS:
        text += f"{longest:,} steps in {BINS} bins; each shows its step nearest to the limit, so no peak is left out. "
    return "\n  ".join((text + "Worst in either norm:", *map(finding_text, findings)))


def findings_fold(findings: Sequence[Finding], whose: str = "") -> Fold:
    """Return a table with one row per finding. A note that all findings of a check share stands once, above it."""
    shared = {}
    for check in dict.fromkeys(f.check for f in findings):
        notes = {f.note for f in findings if f.check == check}
        if len(notes) == 1 and notes != {""}:
            shared[check] = notes.pop()
    rows = tuple(_row(f, "" if f.check in shared else f.note) for f in findings)
    columns = ("quantity", "check", "verdict", "error", "limit", "error / limit", "remarks")
    words = tuple(Words("", f"In the {check_text(check)}: {note}.") for check, note in shared.items())
    title = _titled(whose, f"all {len(rows)} findings, every error beside its limit")
    table = Table("", columns, rows, numeric=("error", "limit", "error / limit"), label=title)
    return Fold(title, (*words, table))


def _row(finding: Finding, note: str) -> tuple[str | Cell, ...]:
    both = finding.error is not None and finding.limit is not None
    remarks = []
    if len(finding.counts) > 1:
        remarks.append(", ".join(f"{n:,} {name}" for name, n in finding.counts.items()))
    if finding.by == "max-norm":
        remarks.append("max-norm")
    if finding.index is not None:
        remarks.append(f"at {list(finding.index)}: got {finding.got:.9g}, expected {finding.expected:.9g}")
    if finding.first_step is not None:
        remarks.append(f"first {_step_noun(finding)} that differs: {finding.first_step}")
    remarks += [note] * bool(note) + [f"settled {settled_text(finding)}"] * bool(finding.settled_by)
    return (
        finding.label,
        str(finding.check),
        Cell(str(finding.verdict), "good" if finding.settled_by else TONES[finding.verdict]),
        _figure(finding.error),
        _figure(finding.limit),
        number(finding.ratio) if both and finding.limit else "",
        "; ".join(remarks),
    )


def _step_noun(finding: Finding) -> str:
    return finding.scope.noun if finding.scope.in_order else TIME.noun


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}" if value else "0"


def _titled(whose: str, text: str) -> str:
    return f"{whose}: {text}" if whose else text[:1].upper() + text[1:]
