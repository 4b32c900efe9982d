"""A training in both frameworks as a page: loss curves, and errors against their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure as Drawing

from crosscheck.core.finding import FLOAT32, SEVERITY, Outcome, worst
from crosscheck.core.verdict_text import MEANING, finding_text
from crosscheck.report.page import Figure, Page, Section, Words
from crosscheck.report.sections import curves, drawn_fold, findings_fold, gravity
from crosscheck.report.svg import ACCENT, INK, RULE, drawing, inline_svg, open_frame
from crosscheck.report.table import Table, outcome_cell
from crosscheck.studies.training.judgement import departure
from crosscheck.studies.training.lockstep import StepLosses
from crosscheck.studies.training.report import closing_line, conventions, loss_table, quantity_table
from crosscheck.studies.training.result import TrainingResult
from crosscheck.studies.training.state import VALIDATION

_STYLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # of a line and of its marks
    "torch": ({"color": RULE, "lw": 4}, {"marker": "o", "ms": 7, "mfc": "none"}),
    "jax float64": ({"color": ACCENT, "lw": 1.1, "ls": "-"}, {"marker": "+", "ms": 6}),
    "jax float32": ({"color": ACCENT, "lw": 1.1, "ls": "--"}, {"marker": "x", "ms": 6}),
}
DRAWN = 4  # quantities: loss, gradient norm, and those nearest to their limits


def training_page(results: Sequence[TrainingResult], environment: Mapping[str, Any], command: str) -> Page:
    """Return the page. There is one result per dtype, all of the same run."""
    outcome = worst(result.outcome for result in results)
    recipe = results[0].recipe
    sections: list[Section] = [
        _verdicts(results),
        Figure("Both losses", loss_curves(results[0].steps), "Cross-entropy per character, in nats."),
        loss_table(results, "Losses"),
        quantity_table(results, "Nearest to their limits"),
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


def _verdicts(results: Sequence[TrainingResult]) -> Table:
    gravest = [max(result.findings, key=lambda f: (SEVERITY.index(f.final), f.ratio)) for result in results]
    rows = tuple((r.dtype, outcome_cell(r.outcome), finding_text(f)) for r, f in zip(results, gravest, strict=True))
    return Table("Verdicts", ("dtype", "verdict", "gravest, or nearest to its limit"), rows)


def _curves(results: Sequence[TrainingResult]) -> list[Section]:
    """Return loss, gradient norm and the gravest others, in every check. The gravest of all is open."""
    judged = [f for result in results for f in result.findings if f.quantity != VALIDATION]
    reported = [f for result in results for f in result.trajectory if f.quantity != VALIDATION]
    by_gravity = list(dict.fromkeys(f.quantity for f in sorted(judged, key=gravity, reverse=True)))
    first = list(dict.fromkeys(f.quantity for f in judged))[:2]
    names = [*first, *(name for name in by_gravity if name not in first)][:DRAWN]
    place, notes = departure(reported), {}
    if place is not None:
        notes[FLOAT32] = f"Reported, not judged: over its limits from step {place.step} on ({place.quantity})."
    folds: list[Section] = []
    for name in names:
        mine = [f for f in judged if f.quantity == name]
        shown = curves([*mine, *(f for f in reported if f.quantity == name)], notes)
        folds.append(replace(drawn_fold(f"{name}, error against step", shown, mine), open=name == by_gravity[0]))
    return folds


@drawing()
def loss_curves(steps: Sequence[StepLosses]) -> str:
    """Return both frameworks' losses against the step, and the held-out losses as marks, as inline SVG.

    The curves of the two hide one another if they agree. Therefore torch's is wide and pale, and JAX's narrow.
    """
    figure = Drawing(figsize=(4.6, 3.1))
    axes = figure.add_axes((0.12, 0.14, 0.85, 0.7))
    names = list(steps[0].loss)
    for name in names:
        line, mark = _STYLES[name]
        axes.plot([s.step for s in steps], [s.loss[name] for s in steps], label=name, **line)
        held_out = {s.step: s.validation[name] for s in steps if s.validation}
        label = f"{name}, held out"
        axes.plot(list(held_out), list(held_out.values()), ls="none", color=INK, label=label, **mark)
    axes.set_xlabel("training step", labelpad=2)
    axes.set_ylabel("loss")
    axes.grid(axis="y", color=RULE, lw=0.6)
    narrow: dict[str, Any] = {"fontsize": 8, "handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 0.9}
    figure.legend(loc="upper left", ncols=len(names), frameon=False, borderpad=0, **narrow)
    open_frame(axes)
    return inline_svg(figure, f"Training and held-out loss of {' and '.join(names)} against the training step")
