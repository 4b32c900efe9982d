"""The tables of the study, for the command and the page."""

from __future__ import annotations

import numpy as np

from crosscheck.core.finding import Finding
from crosscheck.report.table import Table
from crosscheck.studies.gradient_flow.rates import decimal
from crosscheck.studies.gradient_flow.study import Measurement, Study


def study_tables(study: Study) -> list[Table]:
    """Return all tables."""
    trained = [trained_table(study)] if study.trained else []
    return [rnn_table(study), lstm_table(study), *trained, agreement_table(study)]


def rnn_table(study: Study) -> Table:
    """Return norms, rates and predictions per RNN."""
    columns = ("RNN", "‖J_t‖", "steps > 1", "factor", "ρ(mean φ' W)", "ρ(W_hh)", "σ₁(W_hh)", "‖dL/dh_0‖")
    rows = []
    for m in study.rnns:
        norms = f"{m.norms.min():.3f} to {m.norms.max():.3f}"
        above = f"{np.sum(m.norms > 1)} of {m.norms.size}"
        figures = (f"{v:.4f}" for v in (m.rate.factor, m.mean_radius, m.radius, m.largest))
        rows.append((m.name, norms, above, *figures, decimal(m.relative("dh")[0])))
    title = "RNN: Jacobians J_t = dh_t/dh_{t-1}; ‖dh_T/dh_t‖ shrinks or grows by the factor per step back"
    return Table(title, columns, tuple(rows), numeric=columns[1:])


def lstm_table(study: Study) -> Table:
    """Return norms, rates and surviving gradients per LSTM."""
    columns = (
        "LSTM",
        "‖J_t‖",
        "factor",
        "‖dL/dh_0‖",
        "‖dL/dc_0‖",
        "along c only",
        "share along c",
        "‖P_0‖",
        "σ_n(P_0)",
    )
    rows = []
    for m in study.lstms:
        norms = f"{m.norms.min():.3f} to {m.norms.max():.3f}"
        adjoint = (decimal(m.relative(name)[0]) for name in ("dh", "dc", "along_c"))
        product = (decimal(m.logs[name][0]) for name in ("product_max", "product_min"))
        rows.append((m.name, norms, f"{m.rate.factor:.4f}", *adjoint, decimal(m.log2_share()[0]), *product))
    title = "LSTM: joint states (h, c); norms of gradients at step 0 in units of ‖dL/dh_T‖"
    return Table(title, columns, tuple(rows), numeric=columns[1:])


def trained_table(study: Study) -> Table:
    """Return errors and surviving gradients before and after training."""
    columns = ("network", "training", "held-out MSE", "‖dL/dh_0‖", "‖dL/dc_0‖", "share along c", "factor")
    rows = []
    for pair in study.trained:
        for when, m, error in zip(("before", "after"), (pair.before, pair.after), pair.errors, strict=True):
            lstm = m.network.kind == "lstm"
            of_c = (decimal(m.relative("dc")[0]), decimal(m.log2_share()[0])) if lstm else ("", "")
            rows.append((pair.name, when, f"{error:.4f}", decimal(m.relative("dh")[0]), *of_c, f"{m.rate.factor:.4f}"))
    lag = study.trained[0].before.network.steps
    title = f"Before and after {study.train_steps} steps of training on the adding problem, {lag} time steps"
    return Table(title, columns, tuple(rows), numeric=columns[1:], keys=2)


def agreement_table(study: Study) -> Table:
    """Return the verdict and the worst finding per network."""
    columns = ("network", "verdict", "quantities", "nearest to its limit", "error / limit")
    rows = []
    for m in study.everything:
        worst = nearest(m)
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


def nearest(m: Measurement) -> Finding:
    """Return, among the gravest findings, the one with the largest error / limit."""
    gravest = [f for f in m.verdict.findings if f.verdict is m.verdict.outcome]
    return max(gravest, key=lambda f: f.ratio)
