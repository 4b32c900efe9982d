"""The study: every network, measured by both frameworks and compared."""

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
from crosscheck.studies.gradient_flow.training import TRAINED, Trainee, train

CHECKED = 50  # about the number of steps at which singular values are compared


@dataclass(frozen=True)
class Measurement:
    """What was measured of one network.

    Attributes:
      network: the network.
      logs: binary logarithms as jax_lstm measures them, `[T + 1]` or `[T]`.
      verdict: whether torch_ref agrees.
      mean_radius: ρ(diag(mean φ') W_hh); None for an LSTM.
    """

    network: FlowNetwork
    logs: Results
    verdict: Verdict
    mean_radius: float | None = None

    @property
    def name(self) -> str:
        """The name of the network."""
        return self.network.name

    def relative(self, quantity: str) -> np.ndarray:
        """Return log2 of a norm in units of ‖dL/dh_T‖, `[T + 1]`."""
        return self.logs[quantity] - self.logs["dh"][-1]

    @property
    def w_hh(self) -> np.ndarray:
        """The recurrent weights."""
        return self.network.params["weight_hh_l0"]

    @cached_property
    def rate(self) -> Fit:
        """The rate of ‖ds_T/ds_t‖."""
        return fit(self.logs["product_max"])

    @cached_property
    def norms(self) -> np.ndarray:
        """‖J_t‖, `[T]`."""
        return np.exp2(self.logs["step_max"])

    def log2_share(self, part: str = "along_c") -> np.ndarray:
        """Return log2 of the share of dL/dc_t that came along c only, or through h ("through_h"), `[T + 1]`.

        This is ‖a_t‖ / (‖a_t‖ + ‖b_t‖), or the same for b_t.
        """
        with np.errstate(invalid="ignore"):
            return self.logs[part] - np.logaddexp2(self.logs["along_c"], self.logs["through_h"])

    @property
    def radius(self) -> float:
        """ρ(W_hh)."""
        return spectral_radius(self.w_hh)

    @property
    def largest(self) -> float:
        """The largest singular value of W_hh."""
        return float(np.linalg.norm(self.w_hh, 2))


@dataclass(frozen=True)
class TrainedPair:
    """A network before and after training, and its mean squared errors on held-out sequences before and after."""

    name: str
    before: Measurement
    after: Measurement
    errors: tuple[float, float]


@dataclass(frozen=True)
class Study:
    """All measurements, and the number of steps of the short training."""

    networks: tuple[Measurement, ...]
    trained: tuple[TrainedPair, ...] = ()
    train_steps: int = 0

    @property
    def everything(self) -> list[Measurement]:
        """All networks, the trained ones before and after training included."""
        return [*self.networks, *(m for pair in self.trained for m in (pair.before, pair.after))]

    @property
    def rnns(self) -> list[Measurement]:
        """The RNNs."""
        return [m for m in self.networks if m.network.kind == "rnn"]

    @property
    def lstms(self) -> list[Measurement]:
        """The LSTMs."""
        return [m for m in self.networks if m.network.kind == "lstm"]

    @property
    def outcome(self) -> Outcome:
        """The gravest outcome."""
        return worst(m.verdict.outcome for m in self.everything)

    @property
    def ok(self) -> bool:
        """Whether all agree."""
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
    """Measure all networks.

    Args:
      length: the number of steps.
      hidden: the hidden size of the networks.
      seed: the seed of the networks.
      train_steps: steps of the short training; 0 leaves it out.
      jobs: the number of processes.
      begins: called with the name of each piece of work when it begins.
      ends: called with the name of each piece of work when it ends.
    """
    every = max(1, length // CHECKED)
    networks = study_networks(length, hidden, seed)
    trainees = {f"{trainee.name}, trained": trainee for trainee in TRAINED} if train_steps else {}
    pieces: dict[str, Callable[[], Any]] = {}
    for network in sorted(networks, key=lambda network: network.kind):  # LSTMs take longest
        pieces[network.name] = partial(measure, network, every, seed)
    for name, trainee in trainees.items():
        pieces[name] = partial(measure_trained, trainee, train_steps, seed)
    results = {}
    for name, result in run_all(pieces, jobs, begins):
        results[name] = result
        ends(name)
    measured = tuple(results[network.name] for network in networks)
    return Study(measured, tuple(results[name] for name in trainees), train_steps)


def measure(network: FlowNetwork, every: int = 1, seed: int = 0) -> Measurement:
    """Measure one network by both frameworks. Singular values are compared at every ``every``-th step."""
    logs = run_in_jax(network)
    verdict = cross_check(network, logs, every, seed)
    return Measurement(network, logs, verdict, mean_radius(network))


def mean_radius(network: FlowNetwork) -> float | None:
    """Return ρ(diag(mean φ') W_hh) of an RNN on its input; None for an LSTM."""
    if network.kind != "rnn":
        return None
    with jax_precision("float64"):
        run = jax.jit(partial(jax_lstm.rnn, nonlinearity=network.nonlinearity))
        h = np.asarray(run(network.params, network.x)[0])
    return predicted_factor(network.params["weight_hh_l0"], h, network.nonlinearity)


def measure_trained(trainee: Trainee, steps: int, seed: int) -> TrainedPair:
    """Train one network, and measure it before and after."""
    networks, errors = train(trainee, steps, seed)
    before, after = (measure(network, 1, seed) for network in networks)
    return TrainedPair(trainee.name, before, after, errors)
