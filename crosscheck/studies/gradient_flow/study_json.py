"""The study as JSON: every figure of the tables, unrounded, and every finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from crosscheck.report.case_report import finding_to_json
from crosscheck.studies.gradient_flow.implementations import ADJOINT, PRODUCT
from crosscheck.studies.gradient_flow.sentences import study_sentences
from crosscheck.studies.gradient_flow.study import Measurement, Study


def to_json(study: Study, environment: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return the study. Norms are binary logarithms, since no float holds many of them; -inf is a zero."""
    return {
        "ok": study.ok,
        "verdict": str(study.outcome),
        "networks": [_network_to_json(m) for m in study.networks],
        "training": [
            {
                "name": pair.name,
                "held_out_mse": {"before": pair.errors[0], "after": pair.errors[1]},
                "before": _network_to_json(pair.before),
                "after": _network_to_json(pair.after),
            }
            for pair in study.trained
        ],
        "sentences": study_sentences(study),
        "reproduce": command,
        "environment": dict(environment),
    }


def _network_to_json(m: Measurement) -> dict[str, Any]:
    """Return one network. Every network has the same keys; a key that does not apply to its kind is None."""
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
        "findings": [finding_to_json(finding) for finding in m.verdict.findings],
    }
