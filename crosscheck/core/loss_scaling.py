"""Loss scaling: the reference for cotangents times a power of two, if gradients fade in float32 and not in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.core.conditioning import TINY32, Conditioning, Reference
from crosscheck.core.problem import Quantity, is_gradient

LOSS_SCALE = 60  # cotangents times 2^60 lift gradients over the smallest float32


def loss_scaled(reference: Reference) -> Reference | None:
    """Return the reference for larger cotangents; None if gradients do not fade, or fade in float64 too.

    The errors of narrower paths are not scaled: they must be measured again.
    """
    sizes = [
        known.size[1]
        for name, scopes in reference.conditioning.items()
        for known in scopes.values()
        if is_gradient(name)
    ]
    fading = any(np.any((size > 0) & (size < TINY32 * 2**10)) for size in sizes)
    largest = max((float(size.max(initial=0.0)) for size in sizes), default=0.0)
    if not fading or not 0.0 < largest < 2.0**60:
        return None
    power = min(LOSS_SCALE, int(100 - np.ceil(np.log2(largest))))
    factor = 2.0**power

    def lifted(name: Quantity, known: Conditioning) -> Conditioning:
        up = factor if is_gradient(name) else 1.0
        own = np.zeros_like(known.size)
        return replace(known, size=known.size * up, response=known.response * up, own_error=own)

    return Reference(
        {name: value * factor if is_gradient(name) else value for name, value in reference.truth.items()},
        {
            name: {scope: lifted(name, known) for scope, known in scopes.items()}
            for name, scopes in reference.conditioning.items()
        },
        reference.outliers,
        power=power,
    )
