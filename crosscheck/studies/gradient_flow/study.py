"""The study: every network measured by both frameworks and compared, and what follows from the numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

import jax_lstm
from crosscheck.core.finding import Outcome, worst
from crosscheck.core.jax_runner import jax_precision
from crosscheck.core.problem import Results
from crosscheck.core.processes import run_all
from crosscheck.core.verdict import Verdict
from crosscheck.studies.gradient_flow.agreement import cross_check
from crosscheck.studies.gradient_flow.implementations import run_in_jax
from crosscheck.studies.gradient_flow.network import FlowNetwork, study_networks
from crosscheck.studies.gradient_flow.rates import Fit, fit, predicted_factor, spectral_radius
from crosscheck.studies.gradient_flow.training import TRAINED, train

CHECKED = 50  # about so many steps of a sequence have their singular values compared


@dataclass(frozen=True)
class Measured:
    """One network: binary logarithms as jax_lstm measured them, [T + 1] or [T] each, and whether torch_ref agrees.

    mean_radius: ρ(diag(mean φ') W_hh), of an RNN alone.
    """

    network: FlowNetwork
    logs: Results
    verdict: Verdict
    mean_radius: float | None = None

    @property
    def name(self) -> str:
        return self.network.name

    def relative(self, quantity: str) -> np.ndarray:
        """log2 of a norm [T + 1] in units of ‖dL/dh_T‖."""
        return self.logs[quantity] - self.logs["dh"][-1]

    @property
    def w_hh(self) -> np.ndarray:
        return self.network.params["weight_hh_l0"]

    @cached_property
    def rate(self) -> Fit:
        """Of ‖ds_T/ds_t‖."""
        return fit(self.logs["product_max"])

    @cached_property
    def norms(self) -> np.ndarray:
        """‖J_t‖, [T]."""
        return np.exp2(self.logs["step_max"])

    def log2_share(self, part: str = "along_c") -> np.ndarray:
        """log2 of ‖a_t‖ / (‖a_t‖ + ‖b_t‖), [T + 1]: what of dL/dc_t came along c alone; or, of b_t, "through_h"."""
        with np.errstate(invalid="ignore"):
            return self.logs[part] - np.logaddexp2(self.logs["along_c"], self.logs["through_h"])

    @property
    def radius(self) -> float:
        """ρ(W_hh), of an RNN."""
        return spectral_radius(self.w_hh)

    @property
    def largest(self) -> float:
        """The largest singular value of W_hh."""
        return float(np.linalg.norm(self.w_hh, 2))


@dataclass(frozen=True)
class TrainedPair:
    """errors: mean squared, on held-out sequences, before and after."""

    name: str
    before: Measured
    after: Measured
    errors: tuple[float, float]


@dataclass(frozen=True)
class Study:
    length: int
    hidden: int
    seed: int
    train_steps: int
    networks: tuple[Measured, ...]
    trained: tuple[TrainedPair, ...]

    @property
    def everything(self) -> list[Measured]:
        return [*self.networks, *(m for pair in self.trained for m in (pair.before, pair.after))]

    @property
    def rnns(self) -> list[Measured]:
        return [m for m in self.networks if m.network.kind == "rnn"]

    @property
    def lstms(self) -> list[Measured]:
        return [m for m in self.networks if m.network.kind == "lstm"]

    @property
    def outcome(self) -> Outcome:
        return worst(m.verdict.outcome for m in self.everything)

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.AGREE


def run_study(
    length: int,
    hidden: int,
    seed: int,
    train_steps: int,
    jobs: int,
    begins: Callable[[str], None] = lambda name: None,
    ends: Callable[[str], None] = lambda name: None,
) -> Study:
    """All of it; ``begins(name)`` before and ``ends(name)`` after each piece.

    With ``jobs`` over 1 in so many processes, the longest first.
    """
    every = max(1, length // CHECKED)
    networks = study_networks(length, hidden, seed)
    pieces: dict[str, Callable[[], Any]] = {}
    for network in sorted(networks, key=lambda network: network.kind):  # LSTMs take longest
        pieces[network.name] = partial(measure, network, every, seed)
    for name, kind, bias in TRAINED if train_steps else ():
        pieces[f"{name}, trained"] = partial(measure_trained, name, kind, bias, train_steps, seed)
    found = {}
    for name, result in run_all(pieces, jobs, begins):
        found[name] = result
        ends(name)
    trained = tuple(found[f"{name}, trained"] for name, *_ in TRAINED) if train_steps else ()
    return Study(length, hidden, seed, train_steps, tuple(found[network.name] for network in networks), trained)


def measure(network: FlowNetwork, every: int = 1, seed: int = 0) -> Measured:
    """One network by both frameworks, singular values compared at every so many steps."""
    logs = run_in_jax(network)
    verdict = cross_check(network, logs, every, seed)
    return Measured(network, logs, verdict, mean_radius(network))


def mean_radius(network: FlowNetwork) -> float | None:
    """ρ(diag(mean φ') W_hh) of an RNN on its input."""
    if network.kind != "rnn":
        return None
    with jax_precision("float64"):
        run = jax.jit(partial(jax_lstm.rnn, nonlinearity=network.nonlinearity))
        h = np.asarray(run(network.params, network.x)[0])
    return predicted_factor(network.params["weight_hh_l0"], h, network.nonlinearity)


def measure_trained(name: str, kind: str, bias: float | str | None, steps: int, seed: int) -> TrainedPair:
    trained = train(name, kind, bias, steps, seed)
    before, after = (measure(network, 1, seed) for network in (trained.before, trained.after))
    return TrainedPair(name, before, after, trained.errors)
