"""Cases for the mutation score: fixed cases, so that every fault applies to some, and random configurations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from crosscheck.lstm.cases import RecurrentCase

_SMALL: dict[str, Any] = {"batch": 4, "steps": 20, "input_size": 5, "hidden_size": 7}
_RAGGED: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "lengths": (11, 20, 3, 16)}
_QUICK = (
    RecurrentCase("ragged", "two layers, both directions, lengths", **_SMALL, **_RAGGED),
    RecurrentCase("projection", "two layers with a projection", **_SMALL, num_layers=2, proj_size=3),
    RecurrentCase("plain", "one layer", **_SMALL),
)
_LONG = RecurrentCase("long", "one layer, 1,000 steps", 2, 1_000, 5, 7)


def fixed_cases(quick: bool) -> tuple[RecurrentCase, ...]:
    """Return the fixed cases; without the long one if ``quick``."""
    return _QUICK if quick else (*_QUICK, _LONG)


def random_cases(count: int, seed: int = 0) -> Iterator[RecurrentCase]:
    """Yield configurations of every option of torch.nn.LSTM and torch.nn.RNN, with sizes that differ.

    relu comes only with many units and rows. If there are few, all may be zero in some step, and then there is nothing
    to check.
    """
    rng = np.random.default_rng([seed, 0xFA])
    for n in range(count):
        batch, inputs, hidden, projection = (int(a) for a in rng.permutation(np.arange(2, 14))[:4])
        steps = int(rng.integers(14, 48)) if rng.random() < 0.85 else 1
        is_lstm = rng.random() < 0.8
        ragged, unbatched = rng.random() < 0.3 and steps > 1, rng.random() < 0.15
        yield RecurrentCase(
            f"random-{n}",
            "",
            None if unbatched else batch,
            steps,
            inputs,
            hidden,
            kind="lstm" if is_lstm else "rnn",
            num_layers=int(rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1])),
            bias=bool(rng.random() < 0.8),
            bidirectional=bool(rng.random() < 0.4),
            proj_size=projection if is_lstm and projection < hidden and rng.random() < 0.3 else 0,
            nonlinearity="relu" if hidden >= 8 and batch >= 4 and not (ragged or unbatched) else "tanh",
            time_major=bool(rng.random() < 0.3),
            lengths=tuple(int(a) for a in rng.integers(1, steps + 1, batch)) if ragged and not unbatched else None,
            loss="all" if rng.random() < 0.65 or ragged or unbatched else "last",
            forget_bias=float(rng.integers(0, 4)) if is_lstm and rng.random() < 0.3 else None,
            seed=n,
        )
