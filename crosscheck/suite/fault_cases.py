"""On what faults are tried: fixed cases of which every fault applies to some, and random right configurations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from crosscheck.lstm.cases import RecurrentCase

_SMALL: dict[str, Any] = {"batch": 4, "steps": 20, "input_size": 5, "hidden_size": 7}
_QUICK = (
    RecurrentCase(
        "ragged", "two layers, both directions, lengths", **_SMALL, num_layers=2, bidirectional=True,
        lengths=(11, 20, 3, 16),
    ),
    RecurrentCase("projection", "two layers with a projection", **_SMALL, num_layers=2, proj_size=3),
    RecurrentCase("plain", "one layer", **_SMALL),
)  # fmt: skip
_LONG = RecurrentCase("long", "one layer, 1,000 steps", 2, 1_000, 5, 7)


def bench_cases(quick: bool) -> tuple[RecurrentCase, ...]:
    return _QUICK if quick else (*_QUICK, _LONG)


def random_cases(count: int, seed: int = 0) -> Iterator[RecurrentCase]:
    """Configurations of every option of torch.nn.LSTM and torch.nn.RNN, with sizes that differ.

    relu comes with many units and rows: a few of them may all be off in some step, and then there is nothing to check.
    """
    rng = np.random.default_rng([seed, 0xFA])
    for n in range(count):
        batch, inputs, hidden, projection = (int(a) for a in rng.permutation(np.arange(2, 14))[:4])
        steps = int(rng.integers(14, 48)) if rng.random() < 0.85 else 1
        kind = "lstm" if rng.random() < 0.8 else "rnn"
        ragged, unbatched = rng.random() < 0.3 and steps > 1, rng.random() < 0.15
        yield RecurrentCase(
            f"random-{n}",
            "",
            None if unbatched else batch,
            steps,
            inputs,
            hidden,
            kind=kind,
            num_layers=int(rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1])),
            bias=bool(rng.random() < 0.8),
            bidirectional=bool(rng.random() < 0.4),
            proj_size=projection if kind == "lstm" and projection < hidden and rng.random() < 0.3 else 0,
            nonlinearity="relu" if hidden >= 8 and batch >= 4 and not (ragged or unbatched) else "tanh",
            time_major=bool(rng.random() < 0.3),
            lengths=tuple(int(a) for a in rng.integers(1, steps + 1, batch)) if ragged and not unbatched else None,
            loss="all" if rng.random() < 0.65 or ragged or unbatched else "last",
            forget_bias=float(rng.integers(0, 4)) if kind == "lstm" and rng.random() < 0.3 else None,
            seed=n,
        )
