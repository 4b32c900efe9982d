"""What is trained: sizes, text, batches and the first weights. Both sides read it; neither has a part of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import torch_ref
from crosscheck.lstm.corpus import Corpus
from crosscheck.studies.training.optimizers import OPTIMIZERS, Optimizer

EVALUATIONS = 10  # of the validation loss, evenly over the steps


@dataclass(frozen=True)
class Recipe:
    """A training from the first step to the last. ``optimizer`` is a name in OPTIMIZERS; clip None clips nothing."""

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
        return OPTIMIZERS[self.optimizer]

    @property
    def rate(self) -> float:
        return self.algorithm.learning_rate if self.learning_rate is None else self.learning_rate

    @property
    def options(self) -> dict[str, Any]:
        """What a command line would say to train this, by the names of its options."""
        named = {"optimizer": self.optimizer, "steps": self.steps, "clip": self.clip, "learning_rate": self.rate}
        sizes = {"batch": self.batch, "length": self.length, "hidden": self.hidden_size, "layers": self.num_layers}
        return named | sizes | {"seed": self.seed}

    def module(self, lstm: type[torch.nn.Module] = torch_ref.LSTM) -> torch_ref.SequenceModel:
        size = self.corpus.vocabulary
        return torch_ref.SequenceModel(
            size, self.embedding_size, self.hidden_size, size, self.num_layers, lstm=lstm
        ).double()

    def weights(self) -> Mapping[str, np.ndarray]:
        """The first weights, float64, by the state dict's names: torch's own initialisation from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            module = self.module()
        return {name: value.detach().numpy().copy() for name, value in module.named_parameters()}

    def tokens(self, step: int) -> np.ndarray:
        """The batch of a step, int64 [batch, length + 1]: stretches of the training text from random places."""
        return _stretches(self.corpus.train, self.batch, self.length, [self.seed, 1, step])

    def held_out(self) -> np.ndarray:
        """One batch of the validation text, int64 [batch, length + 1]."""
        return _stretches(self.corpus.validation, self.batch, self.length, [self.seed, 2])

    def evaluates(self, step: int) -> bool:
        """Is the validation loss taken after this step? Ten times in all, and at the end."""
        return (step + 1) % max(1, self.steps // EVALUATIONS) == 0 or step + 1 == self.steps


def _stretches(codes, batch, length, seed):
    starts = np.random.default_rng(seed).integers(0, len(codes) - length, batch)
    return codes[starts[:, None] + np.arange(length + 1)]
