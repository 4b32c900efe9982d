"""The named cases: one table for the command line, the tests and the benchmarks.

NumPy draws weights and inputs, so that no random numbers and no initializers of a framework matter. In every case D, H,
B and T differ, initial states are not zero, the two biases differ, and cotangents on every output are random. Therefore
no equal size, no zero and no symmetric sum hides a mistake of layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from crosscheck.core.finding import Outcome
from crosscheck.core.problem import Gradient, Problem, Quantity
from crosscheck.core.slices import TIME, Slicing
from crosscheck.lstm.corpus import encoded_text
from crosscheck.lstm.gates import ROW, gate_slicings


@dataclass(frozen=True)
class RecurrentCase:
    """A recurrent network over a random sequence, with the options of torch.nn.LSTM and torch.nn.RNN.

    Attributes:
      batch: B; None for inputs without a batch axis.
      steps: T.
      lengths: the length of each row; None if no row has padding.
      loss: "all" for random cotangents on y, h_n and c_n; "last" for cotangents only on the last step of y.
      forget_bias: "chrono" draws forget biases log U(1, T-1), and input biases of the opposite sign (Tallec & Ollivier
        2018). A number is added to the forget biases.
      expect: the outcome of a right implementation.
      weights: weights by torch's names, in place of drawn ones, such as a checkpoint's.
    """

    name: str
    description: str
    batch: int | None
    steps: int
    input_size: int
    hidden_size: int
    kind: Literal["lstm", "rnn"] = "lstm"
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    proj_size: int = 0
    nonlinearity: Literal["tanh", "relu"] = "tanh"
    time_major: bool = False
    lengths: tuple[int, ...] | None = None
    loss: Literal["all", "last"] = "all"
    forget_bias: Literal["chrono"] | float | None = None
    expect: Outcome = Outcome.AGREE
    seed: int = 0
    weights: Mapping[str, np.ndarray] | None = field(default=None, repr=False, compare=False)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The endings of parameter names, one per direction."""
        return ("", "_reverse") if self.bidirectional else ("",)

    @property
    def rows(self) -> int:
        """The number of layers times directions: the first axis of a state."""
        return self.num_layers * len(self.suffixes)

    @property
    def time_axis(self) -> int:
        """The axis of x and y that is T long."""
        return 0 if self.time_major or self.batch is None else 1

    @property
    def output_size(self) -> int:
        """The width of h."""
        return self.proj_size or self.hidden_size

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the states that a cell carries."""
        return ("h", "c") if self.kind == "lstm" else ("h",)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the parameters' shapes by name, as torch declares them."""
        gates, out = (4 if self.kind == "lstm" else 1), self.output_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, suffix in self.layers_and_directions():
            wide = self.input_size if layer == 0 else out * len(self.suffixes)
            end = f"_l{layer}{suffix}"
            shapes["weight_ih" + end] = (gates * self.hidden_size, wide)
            shapes["weight_hh" + end] = (gates * self.hidden_size, out)
            if self.bias:
                shapes["bias_ih" + end] = shapes["bias_hh" + end] = (gates * self.hidden_size,)
            if self.proj_size:
                shapes["weight_hr" + end] = (self.proj_size, self.hidden_size)
        return shapes

    def layers_and_directions(self) -> list[tuple[int, str]]:
        """Return (layer, suffix) of each row of a state, in torch's order."""
        return [(layer, suffix) for layer in range(self.num_layers) for suffix in self.suffixes]

    @cached_property
    def problem(self) -> Problem:
        """The problem that the case draws."""
        rng = np.random.default_rng([self.seed, self.steps, self.input_size, self.hidden_size])
        bound = 1 / np.sqrt(self.hidden_size)
        params = {name: rng.uniform(-bound, bound, shape) for name, shape in self.shapes().items()}
        if self.forget_bias is not None:
            for name in params:
                if name.startswith("bias_ih"):
                    params[name] = self._with_forget_bias(rng, params[name])
        if self.weights is not None:
            params = {name: np.asarray(self.weights[name], np.float64) for name in params}
        out, batch = self.output_size, () if self.batch is None else (self.batch,)
        layout: Callable[[int], tuple[int, ...]]
        layout = (lambda n: (self.steps, *batch, n)) if self.time_axis == 0 else (lambda n: (*batch, self.steps, n))
        state_shapes = [(self.rows, *batch, width) for width in (out, self.hidden_size)[: len(self.state_names)]]
        x = rng.normal(size=layout(self.input_size))
        states = tuple(rng.normal(scale=0.5, size=shape) for shape in state_shapes)
        cotangents = [rng.normal(size=shape) for shape in (layout(len(self.suffixes) * out), *state_shapes)]
        if self.loss == "last":
            np.moveaxis(cotangents[0], self.time_axis, 0)[:-1] = 0.0
            cotangents[1:] = map(np.zeros_like, cotangents[1:])
        inputs = ("x", *(f"{name}0" for name in self.state_names))
        return Problem(
            params=params,
            inputs=(x, states if self.kind == "lstm" else states[0]),
            input_names=inputs,
            output_names=("y", *(f"{name}_n" for name in self.state_names)),
            cotangents=tuple(cotangents),
            wrt=(*params, *inputs),
            steps=self.steps,
            slicings=self._slicings(params),
        )

    def _slicings(self, params: Mapping[str, np.ndarray]) -> dict[Quantity, Slicing]:
        """Return the slices: steps of y and dx, gates of every gradient, layers and directions of the states."""
        steps = Slicing(self.time_axis, TIME, used=None if self.lengths is None else max(self.lengths))
        rows = Slicing(0, ROW, tuple(f"l{layer}{end}" for layer, end in self.layers_and_directions()))
        slicings = gate_slicings(params)
        if self.steps > 1:
            slicings |= {"y": steps, Gradient("x"): steps}
        if self.rows > 1:
            slicings |= {name: rows for s in self.state_names for name in (f"{s}_n", Gradient(f"{s}0"))}
        return slicings

    def _with_forget_bias(self, rng: np.random.Generator, bias: np.ndarray) -> np.ndarray:
        """Return b_ih with the forget bias. b_hh stays as drawn, so that the two biases differ."""
        i, f, *rest = np.split(bias, 4)
        if self.forget_bias == "chrono":
            f = np.log(rng.uniform(1, self.steps - 1, self.hidden_size))
            i = -f
        else:
            f = f + float(self.forget_bias or 0.0)
        return np.concatenate((i, f, *rest))


@dataclass(frozen=True)
class TextCase:
    """Embedding, LSTM and Dense on real text. The loss is the cross-entropy of the next character."""

    name: str
    description: str
    steps: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    expect: Outcome = Outcome.AGREE
    seed: int = 0

    @property
    def lstm(self) -> RecurrentCase:
        """The LSTM between Embedding and Dense."""
        sizes = (self.steps, self.embedding_size, self.hidden_size)
        return RecurrentCase("", "", 1, *sizes, num_layers=self.num_layers)

    @cached_property
    def vocab_size(self) -> int:
        """The number of different characters."""
        return encoded_text(self.steps + 1)[1]

    @cached_property
    def problem(self) -> Problem:
        """The problem that the case draws, with gradients of every parameter."""
        rng = np.random.default_rng([self.seed, self.steps])
        codes, vocab_size = encoded_text(self.steps + 1)
        embedding, hidden = self.embedding_size, self.hidden_size
        bound = 1 / np.sqrt(hidden)
        params = {"embedding.weight": rng.normal(size=(vocab_size, embedding))}
        params |= {f"lstm.{name}": rng.uniform(-bound, bound, shape) for name, shape in self.lstm.shapes().items()}
        params["fc.weight"] = rng.uniform(-bound, bound, (vocab_size, hidden))
        params["fc.bias"] = rng.uniform(-bound, bound, vocab_size)
        return Problem(
            params=params,
            inputs=(codes[None, :-1], codes[None, 1:]),
            input_names=("tokens", "targets"),
            output_names=("logits", "loss"),
            cotangents=(np.zeros((1, self.steps, vocab_size)), np.ones(())),
            wrt=tuple(params),
            steps=self.steps,
            slicings=gate_slicings(params) | {"logits": Slicing(1, TIME)},
        )


Case = RecurrentCase | TextCase

_SMALL: dict[str, Any] = {"batch": 3, "steps": 20, "input_size": 5, "hidden_size": 7}
_LONG: dict[str, Any] = {"batch": 2, "steps": 10_000, "input_size": 8, "hidden_size": 32}
_BOTH_WAYS: dict[str, Any] = {"num_layers": 2, "bidirectional": True}

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        RecurrentCase("notebook", "the notebook's shape: batch 2, 10 steps, 300 features, 256 hidden", 2, 10, 300, 256),
        RecurrentCase("one-step", "a single time step", 3, 1, 5, 7),
        RecurrentCase("stacked", "three layers", **_SMALL, num_layers=3),
        RecurrentCase("bidirectional", "two layers, both directions", **_SMALL, **_BOTH_WAYS),
        RecurrentCase("projection", "two layers with proj_size", **_SMALL, num_layers=2, proj_size=4),
        RecurrentCase("no-bias", "without biases", **_SMALL, bias=False),
        RecurrentCase(
            "lengths",
            "rows of different length, unsorted, 0 and T among them, both directions",
            **_SMALL | {"batch": 6},
            **_BOTH_WAYS,
            lengths=(9, 20, 0, 1, 13, 20),
        ),
        RecurrentCase("time-major", "time on the first axis", **_SMALL, time_major=True),
        RecurrentCase("unbatched", "no batch axis", **_SMALL | {"batch": None}, bidirectional=True),
        RecurrentCase("rnn-tanh", "Elman RNN, tanh, two layers, both directions", **_SMALL, **_BOTH_WAYS, kind="rnn"),
        RecurrentCase("rnn-relu", "Elman RNN, relu", **_SMALL, kind="rnn", nonlinearity="relu"),
        RecurrentCase("long-1000", "1,000 steps", **_LONG | {"steps": 1_000}),
        RecurrentCase("long-10000", "10,000 steps", **_LONG),
        RecurrentCase(
            "long-alive",
            "10,000 steps, loss on the last one, chrono bias: gradients reach step 0",
            **_LONG,
            loss="last",
            forget_bias="chrono",
        ),
        RecurrentCase(
            "long-vanished",
            "control: the same with default biases; nothing is left at step 0 to compare",
            **_LONG,
            loss="last",
            expect=Outcome.VACUOUS,
        ),
        TextCase(
            "text",
            "4,096 characters of Python's documentation: Embedding, 2-layer LSTM, Dense, cross-entropy",
            steps=4_096,
            embedding_size=12,
            hidden_size=40,
            num_layers=2,
        ),
    )
}
