"""The results of the study in sentences that follow from its numbers."""

from __future__ import annotations

import numpy as np

from crosscheck.core.finding import Outcome
from crosscheck.studies.gradient_flow.rates import decimal
from crosscheck.studies.gradient_flow.study import Measurement, Study, TrainedPair
from crosscheck.studies.gradient_flow.training import BASELINE


def study_sentences(study: Study) -> list[str]:
    """Return rates, survival of gradients, and the effect of training."""
    lines = [_rate(study.rnns[0])]
    lines += [_bound(m) for m in study.rnns]
    lines += [_survival(m) for m in study.lstms]
    lines += [_beside(study.rnns[0], max(study.lstms, key=lambda m: m.logs["along_c"][0]))]
    return lines + [_trained(pair) for pair in study.trained]


def counts_text(study: Study) -> str:
    """Return how much was compared."""
    quantities = sum(len({f.quantity for f in m.verdict.findings}) for m in study.everything)
    return f"{len(study.everything)} networks, {quantities} quantities over time, in float64"


def closing_line(study: Study) -> str:
    """Return counts and verdict."""
    return f"{counts_text(study)}: {study.outcome}"


def failures(study: Study) -> list[str]:
    """Return the verdict on each network on which the frameworks do not agree."""
    return [f"{m.name}:\n{m.verdict}" for m in study.everything if m.verdict.outcome is not Outcome.AGREE]


def _rate(m: Measurement) -> str:
    rate, mean = m.rate, m.mean_radius
    assert mean is not None
    if not 0 < rate.factor < np.inf:
        return f"{m.name}: no factor can be fitted from step {rate.first} to {rate.last}, because the products are zero"
    off = m.radius / rate.factor - 1
    way = "overestimates" if off > 0 else "underestimates"
    return (
        f"{m.name}: fitted from step {rate.first} to {rate.last}, ‖dh_T/dh_t‖ changes by {rate.factor:.4f} per step; "
        f"ρ(diag(mean φ') W_hh) = {mean:.4f} is {abs(mean / rate.factor - 1):.2%} off, "
        f"ρ(W_hh) = {m.radius:.4f} {way} it by {abs(off):.1%}"
    )


def _bound(m: Measurement) -> str:
    """Compare the norms of single steps with their product."""
    above, total, factor = int(np.sum(m.norms > 1)), m.norms.size, m.rate.factor
    fate = "vanishes" if factor < 1 else "explodes"
    end = f"{fate} at a factor of {factor:.4f} per step, to {decimal(m.logs['product_max'][0])} at step 0"
    if not above:
        bound = float(np.sum(m.logs["step_max"]))
        return f"{m.name}: every ‖J_t‖ is below 1, which bounds the product by {decimal(bound)}; it {end}"
    if factor < 1:
        return (
            f"{m.name}: ‖J_t‖ is above 1 at {above} of {total} steps and σ₁(W_hh) = {m.largest:.3f}, "
            f"and the product {end}: norms below 1 are sufficient for vanishing, not necessary"
        )
    return f"{m.name}: ‖J_t‖ is above 1 at {above} of {total} steps; the product {end}"


def _survival(m: Measurement) -> str:
    dc, dh = m.relative("dc")[0], m.relative("dh")[0]
    parts = {"along c only": m.log2_share()[0], "through h": m.log2_share("through_h")[0]}
    way, most = max(parts.items(), key=lambda part: part[1])
    rest = min(parts.values())
    shown = f"{2.0**most:.0%}" if rest > -7 else f"all but {decimal(rest)}"
    return (
        f"{m.name}: of ‖dL/dh_T‖ = 1, ‖dL/dc_0‖ = {decimal(dc)} and ‖dL/dh_0‖ = {decimal(dh)} arrive at step 0, "
        f"{shown} of it {way}"
    )


def _beside(rnn: Measurement, lstm: Measurement) -> str:
    least, most = rnn.relative("dh")[0], lstm.relative("dc")[0]
    return (
        f"at step 0, {rnn.network.steps} steps back: ‖dL/dh_0‖ = {decimal(least)} in {rnn.name}, "
        f"‖dL/dc_0‖ = {decimal(most)} in {lstm.name}"
    )


def _trained(pair: TrainedPair) -> str:
    state = "dc" if pair.before.network.kind == "lstm" else "dh"
    before, after = (decimal(m.relative(state)[0]) for m in (pair.before, pair.after))
    error = pair.errors[1]
    done = "is no better than the constant answer 1" if error > 0.9 * BASELINE else "learns"
    return (
        f"{pair.name} {done}: error {error:.4f} (baseline {BASELINE:.4f}); "
        f"‖dL/d{state[1]}_0‖ goes from {before} to {after} of ‖dL/dh_T‖"
    )
