"""What is trained: sizes, text, batches and first weights, the same in both frameworks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

import torch_ref
from crosscheck.lstm.corpus import Corpus
from crosscheck.studies.training.optimizers import OPTIMIZERS, Optimizer
from crosscheck.studies.training.state import State

EVALUATIONS = 10  # points of the validation loss, spread evenly over the steps


@dataclass(frozen=True)
class Recipe:
    """A training from the first step to the last.

    Attributes:
      corpus: the text.
      optimizer: a name in OPTIMIZERS.
      steps: steps of the optimizer.
      learning_rate: the learning rate; None takes the optimizer's default here.
      clip: the largest norm of the gradient; None if gradients are not clipped.
      batch: the number of rows.
      length: the number of characters per row.
      embedding_size: the width of the embedding.
      hidden_size: the hidden size of the LSTM.
      num_layers: the number of layers of the LSTM.
      seed: the seed of weights and batches.
    """

    corpus: Corpus = field(repr=False)
    optimizer: str = "adam"
    steps: int = 300
    learning_rate: float | None = None
    clip: float | None = None
    batch: int = 8
    length: int = 32
    embedding_size: int = 16
    hidden_size: int = 32
    num_layers: int = 1
    seed: int = 0

    @property
    def algorithm(self) -> Optimizer:
        """The optimizer."""
        return OPTIMIZERS[self.optimizer]

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.algorithm.learning_rate if self.learning_rate is None else self.learning_rate

    @property
    def options(self) -> dict[str, Any]:
        """The options of the command line that train this, by name."""
        named = {"optimizer": self.optimizer, "steps": self.steps, "clip": self.clip, "learning_rate": self.rate}
        sizes = {"batch": self.batch, "length": self.length, "hidden": self.hidden_size, "layers": self.num_layers}
        return named | sizes | {"seed": self.seed}

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(self.weights())

    @property
    def kinds(self) -> dict[str, str]:
        """What each parameter is, and each array that the optimizer keeps and both libraries have, by its name."""
        kept = {f"{slot} {name}": slot for slot in self.algorithm.slots for name in self.parameters}
        counter = {"step": "step"} if self.algorithm.counter else {}
        return dict.fromkeys(self.parameters, "parameters") | kept | counter

    def module(self, lstm: type[torch.nn.Module] = torch_ref.LSTM) -> torch_ref.SequenceModel:
        """Return the model of the reference in float64."""
        size = self.corpus.vocabulary
        return torch_ref.SequenceModel(
            size, self.embedding_size, self.hidden_size, size, self.num_layers, lstm=lstm
        ).double()

    def weights(self) -> Mapping[str, np.ndarray]:
        """Return the first weights in float64 by the state dict's names: torch's initialisation from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            module = self.module()
        return {name: value.detach().numpy().copy() for name, value in module.named_parameters()}

    def first_state(self) -> State:
        """Return the state before the first step: the weights, and zeros for what the optimizer keeps."""
        weights = self.weights()
        kept = {f"{slot} {name}": np.zeros_like(a) for slot in self.algorithm.slots for name, a in weights.items()}
        return {**weights, **kept, "step": np.zeros(())}

    def tokens(self, step: int) -> np.ndarray:
        """Return the batch of a step, int64 `[batch, length + 1]`: stretches of the training text."""
        return _stretches(self.corpus.train, self.batch, self.length, [self.seed, 1, step])

    def held_out(self) -> np.ndarray:
        """Return one batch of the validation text, int64 `[batch, length + 1]`."""
        return _stretches(self.corpus.validation, self.batch, self.length, [self.seed, 2])

    def evaluates(self, step: int) -> bool:
        """Return whether the validation loss is taken after this step: ten times in all, and at the end."""
        return (step + 1) % max(1, self.steps // EVALUATIONS) == 0 or step + 1 == self.steps


def _stretches(codes: np.ndarray, batch: int, length: int, seed: list[int]) -> np.ndarray:
    starts = np.random.default_rng(seed).integers(0, len(codes) - length, batch)
    return codes[starts[:, None] + np.arange(length + 1)]
