"""The study as a page: sentences, plots, tables, and every network's comparison behind a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crosscheck.report.page import Figure, Fold, Page, Section, Words
from crosscheck.report.sections import gravity, verdict_sections, worst_drawn
from crosscheck.report.table import outcome_cell
from crosscheck.studies.gradient_flow.plot import page_svgs
from crosscheck.studies.gradient_flow.sentences import counts_text, study_sentences
from crosscheck.studies.gradient_flow.study import Measurement, Study
from crosscheck.studies.gradient_flow.tables import study_tables

PNG = "gradient-flow.png"


def study_page(study: Study, environment: Mapping[str, Any], command: str) -> Page:
    """Return the page."""
    caption = f"Norms in units of ‖dL/dh_T‖ on a log scale. All plots on one sheet: {PNG}, beside this page."
    drawn = [Figure(title, svg) for title, svg in page_svgs(study).items()]
    drawn[-1] = replace(drawn[-1], caption=caption)
    failed = [m for m in study.everything if not m.verdict.ok]
    first = max(failed, key=lambda m: gravity(worst_drawn(m.verdict.findings)), default=None)
    sections: list[Section] = [
        Words("What the numbers say", "\n".join(f"  {line}" for line in study_sentences(study))),
        *drawn,
        *study_tables(study),
        *(_network(m, opened=m is first) for m in study.everything),
    ]
    summary = "Gradients through time, by jax_lstm without a Jacobian and by torch_ref with all of them."
    summary = f"{summary}\n{counts_text(study)}"
    return Page("Gradient flow", study.ok, str(study.outcome), summary, tuple(sections), environment, command)


def _network(m: Measurement, opened: bool) -> Fold:
    sections = tuple(verdict_sections(m.verdict, "jax_lstm", drawn=not m.verdict.ok))
    return Fold(m.name, sections, outcome_cell(m.verdict.outcome), open=opened)
