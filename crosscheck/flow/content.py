"""The study as what goes into its JSON file: every figure of the tables, unrounded, and every finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from crosscheck.flow.study import Measured, Study
from crosscheck.flow.words import sentences


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
        "command": command,
        "environment": dict(environment),
    }


def _network(m: Measured) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "name": m.name,
        "steps": m.network.steps,
        "verdict": str(m.verdict.outcome),
        "step_norm": {"min": float(m.norms.min()), "max": float(m.norms.max()), "above_1": int(np.sum(m.norms > 1))},
        "fit": asdict(m.rate),
        "log2_at_step_0": {name: float(a[0]) for name, a in m.logs.items() if not name.startswith("step")},
        "log2_dh_at_last_step": float(m.logs["dh"][-1]),
    }
    if m.mean_radius is not None:
        figures |= {"radius_of_mean": m.mean_radius, "radius": m.radius, "largest_singular_value": m.largest}
    else:
        figures["log2_share_along_c_at_step_0"] = float(m.log2_share()[0])
    return figures | {"findings": [asdict(replace(f, rows=None)) | {"ok": f.ok} for f in m.verdict.findings]}
