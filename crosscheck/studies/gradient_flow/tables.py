"""The tables of the study, for the command and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from crosscheck.report.table import Table
from crosscheck.studies.gradient_flow.rates import decimal
from crosscheck.studies.gradient_flow.study import Measurement, Study


def study_tables(study: Study) -> list[Table]:
    """Return all tables."""
    trained = [trained_table(study)] if study.trained else []
    return [rnn_table(study), lstm_table(study), *trained, agreement_table(study)]


FIGURES: dict[str, Callable[[Measurement], str]] = {  # by the heading of their column
    "‖J_t‖": lambda m: f"{m.norms.min():.3f} to {m.norms.max():.3f}",
    "steps > 1": lambda m: f"{np.sum(m.norms > 1)} of {m.norms.size}",
    "factor": lambda m: f"{m.rate.factor:.4f}",
    "ρ(mean φ' W)": lambda m: f"{m.mean_radius:.4f}",
    "ρ(W_hh)": lambda m: f"{m.radius:.4f}",
    "σ₁(W_hh)": lambda m: f"{m.largest:.4f}",
    "‖dL/dh_0‖": lambda m: decimal(m.relative("dh")[0]),
    "‖dL/dc_0‖": lambda m: decimal(m.relative("dc")[0]) if "dc" in m.logs else "",
    "along c only": lambda m: decimal(m.relative("along_c")[0]),
    "share along c": lambda m: decimal(m.log2_share()[0]) if "dc" in m.logs else "",
    "‖P_0‖": lambda m: decimal(m.logs["product_max"][0]),
    "σ_n(P_0)": lambda m: decimal(m.logs["product_min"][0]),
}


def _figures(m: Measurement, columns: Sequence[str]) -> list[str]:
    return [FIGURES[column](m) for column in columns]


def rnn_table(study: Study) -> Table:
    """Return norms, rates and predictions per RNN."""
    columns = ("‖J_t‖", "steps > 1", "factor", "ρ(mean φ' W)", "ρ(W_hh)", "σ₁(W_hh)", "‖dL/dh_0‖")
    rows = tuple((m.name, *_figures(m, columns)) for m in study.rnns)
    title = "RNN: Jacobians J_t = dh_t/dh_{t-1}; ‖dh_T/dh_t‖ shrinks or grows by the factor per step back"
    return Table(title, ("RNN", *columns), rows, numeric=columns)


def lstm_table(study: Study) -> Table:
    """Return norms, rates and surviving gradients per LSTM."""
    columns = ("‖J_t‖", "factor", "‖dL/dh_0‖", "‖dL/dc_0‖", "along c only", "share along c", "‖P_0‖", "σ_n(P_0)")
    rows = tuple((m.name, *_figures(m, columns)) for m in study.lstms)
    title = "LSTM: joint states (h, c); norms of gradients at step 0 in units of ‖dL/dh_T‖"
    return Table(title, ("LSTM", *columns), rows, numeric=columns)


def trained_table(study: Study) -> Table:
    """Return errors and surviving gradients before and after training."""
    columns = ("‖dL/dh_0‖", "‖dL/dc_0‖", "share along c", "factor")
    rows = tuple(
        (pair.name, when, f"{error:.4f}", *_figures(m, columns))
        for pair in study.trained
        for when, m, error in zip(("before", "after"), (pair.before, pair.after), pair.errors, strict=True)
    )
    lag = study.trained[0].before.network.steps
    title = f"Before and after {study.train_steps} steps of training on the adding problem, {lag} time steps"
    numeric = ("training", "held-out MSE", *columns)
    return Table(title, ("network", *numeric), rows, numeric=numeric, keys=2)


def agreement_table(study: Study) -> Table:
    """Return the verdict per network, and among its gravest findings the one with the largest error / limit."""
    columns = ("network", "verdict", "quantities", "nearest to its limit", "error / limit")
    rows = []
    for m in study.everything:
        gravest = [f for f in m.verdict.findings if f.verdict is m.verdict.outcome]
        worst = max(gravest, key=lambda f: f.ratio)
        figures = " / ".join("none" if a is None else f"{a:.1e}" for a in (worst.error, worst.limit))
        quantities = len({f.quantity for f in m.verdict.findings})
        where = LABELS.get(str(worst.quantity), str(worst.quantity)) + (f" [{worst.slice}]" if worst.slice else "")
        rows.append((m.name, str(m.verdict.outcome), str(quantities), where, figures))
    return Table("jax_lstm beside torch_ref: errors relative to each norm", columns, tuple(rows))


LABELS = {
    "dh": "‖dL/dh_t‖",
    "dc": "‖dL/dc_t‖",
    "along_c": "along c only",
    "through_h": "through h",
    "step_max": "σ₁(J_t)",
    "step_min": "σ_n(J_t)",
    "product_max": "σ₁(ds_T/ds_t)",
    "product_min": "σ_n(ds_T/ds_t)",
}
