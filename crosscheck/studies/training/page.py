"""A training in both frameworks as a page: both loss curves, errors against their limits, and what was compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure as Drawing

from crosscheck.core.finding import SEVERITY, Finding, Outcome, worst
from crosscheck.core.verdict_text import MEANING, finding_text
from crosscheck.report.page import Cell, Figure, Page, Section, Table, Words
from crosscheck.report.sections import curves, drawn_fold, findings_fold, gravity, outcome_cell
from crosscheck.report.svg import ACCENT, INK, RULE, drawing, inline_svg, open_frame
from crosscheck.studies.training.judgement import departure
from crosscheck.studies.training.lockstep import Moment
from crosscheck.studies.training.result import TrainingResult
from crosscheck.studies.training.tables import closing_line, conventions, loss_rows, quantity_rows

DRAWN = 4  # quantities: loss, gradient norm, and those nearest to their limits


def training_page(results: Sequence[TrainingResult], environment: Mapping[str, Any], command: str) -> Page:
    """results: one a dtype, of the same run."""
    outcome = worst(result.outcome for result in results)
    recipe = results[0].recipe
    sections: list[Section] = [
        _verdicts(results),
        Figure("Both losses", loss_curves(results[0].moments), "Cross-entropy a character, in nats."),
        _as_table("Losses", *loss_rows(results)),
        _as_table("Nearest to their limits", *quantity_rows(results)),
        Words("Optax and torch.optim", "\n".join(conventions(recipe))),
    ]
    sections += _curves(results)
    sections += [findings_fold((*r.findings, *r.trajectory), r.dtype) for r in results]
    return Page(
        title=f"Training in both frameworks: {recipe.optimizer}",
        ok=outcome is Outcome.AGREE,
        verdict=str(outcome),
        summary="\n".join([MEANING[outcome], closing_line(results), *(n for r in results for n in r.notes)]),
        sections=tuple(sections),
        environment={**environment, **recipe.options},
        command=command,
    )


def _verdicts(results):
    rows = tuple((r.dtype, outcome_cell(r.outcome), _worst_text(r.findings)) for r in results)
    return Table("Verdicts", ("dtype", "verdict", "gravest, or nearest to its limit"), rows)


def _worst_text(findings: Sequence[Finding]) -> str:
    return finding_text(max(findings, key=lambda f: (SEVERITY.index(f.final), f.ratio)))


def _as_table(title, columns, rows):
    cells = tuple(tuple(Cell(text) for text in row) for row in rows)
    return Table(title, tuple(columns), cells)


def _curves(results: Sequence[TrainingResult]) -> list[Section]:
    """Loss, gradient norm and the gravest others, in every lane; the gravest of all stands open."""
    judged = [f for result in results for f in result.findings if f.quantity != "validation loss"]
    reported = [f for result in results for f in result.trajectory if f.quantity != "validation loss"]
    by_gravity = list(dict.fromkeys(f.quantity for f in sorted(judged, key=gravity, reverse=True)))
    first = list(dict.fromkeys(f.quantity for f in judged))[:2]
    names = [*first, *(name for name in by_gravity if name not in first)][:DRAWN]
    notes = {}
    for check in {f.check for f in reported}:
        leaves = departure([f for f in reported if f.check == check])
        if leaves is not None:
            notes[check] = f"Reported, not judged: beyond its limits from step {leaves[0]} on ({leaves[1]})."
    folds: list[Section] = []
    for name in names:
        own = [f for f in judged if f.quantity == name]
        shown = curves([*own, *(f for f in reported if f.quantity == name)], notes)
        folds.append(replace(drawn_fold(f"{name}, error against step", shown, own), open=name == by_gravity[0]))
    return folds


@drawing()
def loss_curves(moments: Sequence[Moment]) -> str:
    """Both frameworks' losses against the step, and the held-out ones as marks; inline SVG.

    The curves of the two lie on one another where they agree: torch's is wide and pale, JAX's narrow and dashed.
    """
    figure = Drawing(figsize=(4.6, 3.1))
    axes = figure.add_axes((0.12, 0.14, 0.85, 0.7))
    evaluated = [m for m in moments if m.validation]
    for side in moments[0].losses:
        torch = side == "torch"
        style: dict[str, Any] = {"color": RULE, "lw": 4}
        marks: dict[str, Any] = {"marker": "o", "ms": 7, "mfc": "none"}
        if not torch:
            wide = "64" in side
            style = {"color": ACCENT, "lw": 1.1, "ls": "-" if wide else "--"}
            marks = {"marker": "+" if wide else "x", "ms": 6}
        axes.plot([m.step + 1 for m in moments], [m.losses[side] for m in moments], label=side, **style)
        steps, losses = [m.step + 1 for m in evaluated], [m.validation[side] for m in evaluated]
        axes.plot(steps, losses, ls="none", color=INK, label=f"{side}, held out", **marks)
    axes.set_xlabel("training step", labelpad=2)
    axes.set_ylabel("loss")
    axes.grid(axis="y", color=RULE, lw=0.6)
    narrow: dict[str, Any] = {"fontsize": 8, "handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 0.9}
    figure.legend(loc="upper left", ncols=len(moments[0].losses), frameon=False, borderpad=0, **narrow)
    open_frame(axes)
    names = " and ".join(moments[0].losses)
    return inline_svg(figure, f"Training and held-out loss of {names} against the training step")
