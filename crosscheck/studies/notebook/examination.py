"""The examination of the teaching notebook's LSTM class as a black box.

The class has four linear layers over [x, h], named f, i, c_ and o, and returns hidden_states [B, T, H] and the last
(h, c). There are two questions. Which layer feeds which gate? All 4^4 assignments are run, and gradients must be zero
for exactly those layers that the answer leaves out. What are the collected hidden states? The class itself, run on the
first t steps, gives h_t and c_t. Its code is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import jax
import numpy as np
import torch
from torch import Tensor, nn

import jax_lstm
import torch_ref
from crosscheck.core.jax_runner import jax_precision
from crosscheck.core.torch_runner import full_precision

LAYERS = ("f", "i", "c_", "o")
EQUATIONS = LAYERS  # each gate by its own layer
PUBLISHED = ("f",) * len(LAYERS)  # what the published class is known to do
BATCH, STEPS, FEATURES, HIDDEN = 2, 10, 300, 256  # the notebook's
SMALL = 1e-12  # in float64, the figure that the project states; a wrong explanation errs by 1e-2 and more
DISTINCT = 1e3  # times the error of the best explanation: the least error of the next best

Answer: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """The best answer to a question about a class, the next best, and the equations' answer, with relative errors."""

    found: Answer
    error: float
    runner_up: Answer
    runner_up_error: float
    equations: Answer
    equations_error: float

    @property
    def decided(self) -> bool:
        """Whether the best answer fits, and no other answer nearly fits."""
        return self.error <= SMALL and self.runner_up_error >= DISTINCT * max(self.error, np.finfo(float).eps)

    @property
    def departs(self) -> bool:
        """Whether the answer is certain, and differs from the answer of the equations."""
        return self.decided and self.found != self.equations


@dataclass(frozen=True)
class Behaviour:
    """What one class does.

    Attributes:
      gates: the layers that feed the gates f, i, c_ and o, in this order.
      collected: what the collected hidden states are, "h_t" or "c_t".
      unused: the layers whose weight and bias have a gradient that is zero everywhere.
    """

    gates: Explanation
    collected: Explanation
    unused: tuple[str, ...]

    @property
    def gradients_agree(self) -> bool:
        """Whether the layers that feed no gate are exactly the layers that have no gradient."""
        return set(self.unused) == set(LAYERS) - set(self.gates.found)

    @property
    def explained(self) -> bool:
        """Whether both questions are decided and gradients confirm the first answer."""
        return self.gates.decided and self.collected.decided and self.gradients_agree

    @property
    def gates_depart(self) -> bool:
        """Whether the gates depart from the equations for certain."""
        return self.gates.departs and self.gradients_agree

    @property
    def departs(self) -> bool:
        """Whether the class departs from the equations for certain."""
        return self.gates_depart or self.collected.departs


@dataclass(frozen=True)
class NotebookResult:
    """The published class, and the corrected class beside other LSTMs.

    Attributes:
      published: what the published class does.
      corrected: what the corrected class does.
      errors: the largest relative error of y, h_n and c_n of the corrected class, by the other implementation.
    """

    published: Behaviour
    corrected: Behaviour
    errors: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether only the published class has both departures, and the corrected one agrees with the others."""
        return (
            all(one.explained for one in (self.published, self.corrected))
            and self.published.gates.found == PUBLISHED
            and self.published.collected.departs
            and not self.corrected.departs
            and all(error <= SMALL for error in self.errors.values())
        )


def examine_notebook(published: nn.Module, corrected: nn.Module) -> NotebookResult:
    """Return what both classes do at the notebook's sizes, on the same random weights, inputs and states.

    The modules get fresh weights in float64: pass new ones.
    """
    with full_precision():
        for module in (published, corrected):
            _randomise(module)
        inputs = _inputs()
        first, second = (behaviour_of(module, inputs) for module in (published, corrected))
        return NotebookResult(first, second, _errors_beside_others(corrected, inputs))


def notebook_classes() -> tuple[nn.Module, nn.Module]:
    """Return the class as it was published, and as its equations say."""
    return torch_ref.NotebookLSTM(FEATURES, HIDDEN), torch_ref.NotebookLSTM(FEATURES, HIDDEN, as_published=False)


def behaviour_of(module: nn.Module, inputs: Sequence[Tensor]) -> Behaviour:
    """Return what ``module(x, h, c)`` does in float64, as a black box."""
    outputs, last = module(*inputs)
    gates = _layers_of_gates(module, inputs, last)
    return Behaviour(gates, _what_is_collected(module, inputs, outputs), _unused(module, inputs))


def _layers_of_gates(module: nn.Module, inputs: Sequence[Tensor], last: Sequence[Tensor]) -> Explanation:
    assignments = list(product(range(4), repeat=4))
    with torch.no_grad():
        h, c = _all_assignments(module, inputs, torch.tensor(assignments))
        errors = torch.maximum(_errors(h, last[0]), _errors(c, last[1]))
    names = [tuple(LAYERS[n] for n in assignment) for assignment in assignments]
    return _best(dict(zip(names, errors.tolist(), strict=True)), EQUATIONS)


def _all_assignments(module: nn.Module, inputs: Sequence[Tensor], assignments: Tensor) -> tuple[Tensor, Tensor]:
    """Return the equations' last h and c, `[n, B, H]`, for n assignments `[n, 4]` at once."""
    x, h, c = inputs
    state = module.state_dict()
    weight = torch.stack([state[f"{layer}.weight"] for layer in LAYERS])
    bias = torch.stack([state[f"{layer}.bias"] for layer in LAYERS])[:, None]
    h, c = (a.expand(len(assignments), *a.shape) for a in (h, c))
    rows = torch.arange(len(assignments))[:, None]
    for x_t in x.unbind(1):
        joint = torch.cat((x_t.expand(len(assignments), *x_t.shape), h), dim=-1)
        sums = torch.einsum("nbk,luk->nlbu", joint, weight) + bias
        to_f, to_i, to_c, to_o = sums[rows, assignments].unbind(1)
        c = torch.sigmoid(to_f) * c + torch.sigmoid(to_i) * torch.tanh(to_c)
        h = torch.sigmoid(to_o) * torch.tanh(c)
    return h, c


def _what_is_collected(module: nn.Module, inputs: Sequence[Tensor], outputs: Tensor) -> Explanation:
    x, h, c = inputs
    with torch.no_grad():
        lasts = [module(x[:, : t + 1], h, c)[1] for t in range(x.shape[1])]
    states = [torch.stack(each, dim=1) for each in zip(*lasts, strict=True)]
    errors = [float(_errors(a[None], outputs.detach())[0]) for a in states]
    return _best(dict(zip((("h_t",), ("c_t",)), errors, strict=True)), ("h_t",))


def _unused(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """Return the layers without effect: layers for which a random functional of all results has no gradient."""
    outputs, last = module(*inputs)
    rng = torch.Generator().manual_seed(1)
    loss = sum((a * torch.randn(a.shape, generator=rng, dtype=a.dtype)).sum() for a in (outputs, *last))
    named = dict(module.named_parameters())
    wanted = {f"{layer}.{kind}": named[f"{layer}.{kind}"] for layer in LAYERS for kind in ("weight", "bias")}
    gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    moved = {name for name, g in zip(wanted, gradients, strict=True) if g is not None and bool((g != 0).any())}
    return tuple(layer for layer in LAYERS if not any(f"{layer}.{kind}" in moved for kind in ("weight", "bias")))


def _errors_beside_others(corrected: nn.Module, inputs: Sequence[Tensor]) -> dict[str, float]:
    """Return the largest error of y, h and c of the corrected class against both LSTMs on its weights, in float64."""
    weights = corrected.lstm_state_dict()  # type: ignore[operator]
    x, h, c = inputs
    with torch.no_grad():
        y, last = corrected(*inputs)
        ours = (y, *(a[None] for a in last))
        lstm = torch.nn.LSTM(x.shape[2], h.shape[1], batch_first=True, dtype=x.dtype)
        lstm.load_state_dict(weights)
        out, state = lstm(x, (h[None], c[None]))
    with jax_precision("float64"):
        arrays = [a.numpy() for a in (x, h[None], c[None])]
        y, state_of_jax = jax.jit(jax_lstm.lstm)(
            jax_lstm.convert.from_torch(weights), arrays[0], jax_lstm.LSTMState(*arrays[1:])
        )
        port = [torch.tensor(np.asarray(a)) for a in (y, state_of_jax.h, state_of_jax.c)]
    others = {"jax_lstm.lstm": port, "torch.nn.LSTM": (out, *state)}
    return {
        name: max(float(_errors(a[None], b)) for a, b in zip(ours, theirs, strict=True))
        for name, theirs in others.items()
    }


def _best(errors: dict[Answer, float], equations: Answer) -> Explanation:
    """Return the two answers with the smallest errors. NaN is the largest error."""
    errors = {name: error if error == error else float("inf") for name, error in errors.items()}
    (best, error), (second, second_error) = sorted(errors.items(), key=lambda item: item[1])[:2]
    return Explanation(best, error, second, second_error, equations, errors[equations])


def _errors(got: Tensor, expected: Tensor) -> Tensor:
    """Return the relative 2-norm errors `[n]` of ``got``, `[n, ...]`."""
    return (got - expected).flatten(1).norm(dim=1) / expected.norm()


def _randomise(module: nn.Module) -> None:
    """Draw weights of a default initialisation's size by NumPy, different in all layers."""
    rng = np.random.default_rng(0)
    module.double()
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            bound = 1 / np.sqrt(HIDDEN)
            parameter.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(parameter.shape))))


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(1)
    x, h, c = (rng.normal(size=size) for size in ((BATCH, STEPS, FEATURES), (BATCH, HIDDEN), (BATCH, HIDDEN)))
    return torch.from_numpy(x), torch.from_numpy(0.5 * h), torch.from_numpy(c)
