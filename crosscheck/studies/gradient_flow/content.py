"""The study as what goes into its JSON file: every figure of the tables, unrounded, and every finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from crosscheck.report.content import finding_dict
from crosscheck.studies.gradient_flow.implementations import ADJOINT, PRODUCT
from crosscheck.studies.gradient_flow.sentences import sentences
from crosscheck.studies.gradient_flow.study import Measured, Study


def as_content(study: Study, environment: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Norms are binary logarithms, since many of them are numbers that no float holds; -inf is a zero."""
    return {
        "ok": study.ok,
        "verdict": str(study.outcome),
        "networks": [_network(m) for m in study.networks],
        "training": [
            {
                "name": pair.name,
                "held_out_mse": {"before": pair.errors[0], "after": pair.errors[1]},
                "before": _network(pair.before),
                "after": _network(pair.after),
            }
            for pair in study.trained
        ],
        "sentences": sentences(study),
        "reproduce": command,
        "environment": dict(environment),
    }


def _network(m: Measured) -> dict[str, Any]:
    """Every network has the same keys; what its kind has not is None."""
    at_start = {name: float(a[0]) for name, a in m.logs.items()}
    is_rnn = m.mean_radius is not None
    return {
        "name": m.name,
        "kind": m.network.kind,
        "steps": m.network.steps,
        "verdict": str(m.verdict.outcome),
        "step_norm": {"min": float(m.norms.min()), "max": float(m.norms.max()), "above_1": int(np.sum(m.norms > 1))},
        "fit": asdict(m.rate),
        "log2_at_step_0": {name: at_start.get(name) for name in (*ADJOINT, *PRODUCT)},
        "log2_dh_at_last_step": float(m.logs["dh"][-1]),
        "log2_share_along_c_at_step_0": None if is_rnn else float(m.log2_share()[0]),
        "radius_of_mean": m.mean_radius,
        "radius": m.radius if is_rnn else None,
        "largest_singular_value": m.largest if is_rnn else None,
        "findings": [finding_dict(finding) for finding in m.verdict.findings],
    }
