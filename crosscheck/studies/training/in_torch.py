"""Training in torch: torch_ref.SequenceModel and torch.optim, one step from any state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

import torch_ref
from crosscheck.core.torch_runner import full_precision
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.state import GRADIENT_NORM, LOSS, VALIDATION, State

Constants = Callable[[float], float] | None


class TorchTrainer:
    """Training steps on named arrays. ``lstm`` replaces the LSTM, such as by torch.nn.LSTM."""

    def __init__(self, recipe: Recipe, dtype: str, lstm: type[torch.nn.Module] = torch_ref.LSTM) -> None:
        self.recipe = recipe
        self.dtype = getattr(torch, dtype)
        self.module = recipe.module(lstm).to(self.dtype)
        self.parameters = dict(self.module.named_parameters())
        self.optimizer = recipe.algorithm.torch(self.module.parameters(), recipe.rate)
        group = self.optimizer.param_groups[0]
        self.slots = recipe.algorithm.slots
        self.constants = {name: value for name, value in group.items() if isinstance(value, float) or name == "betas"}

    def step(self, state: State, tokens: np.ndarray, weight: float = 1.0, off: Constants = None) -> State:
        """Return the state after one step on a batch, with its loss and its gradient's norm.

        Args:
          state: the state before.
          tokens: the batch.
          weight: multiplies the loss before it is differentiated.
          off: moves each of the optimizer's constants.
        """
        with full_precision():
            self._load(state)
            self._move_constants(off)
            self.optimizer.zero_grad()
            loss = self._loss(tokens)
            (loss * weight).backward()
            norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip or float("inf"))
            self.optimizer.step()
        return self._state(state) | {LOSS: loss.detach().numpy(), GRADIENT_NORM: norm.numpy()}

    def validation(self, state: State) -> State:
        """Return the loss on held-out text."""
        with full_precision(), torch.no_grad():
            self._load(state)
            return {VALIDATION: self._loss(self.recipe.held_out()).numpy()}

    def _loss(self, tokens: np.ndarray) -> torch.Tensor:
        codes = torch.from_numpy(tokens)
        logits, _ = self.module(codes[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten())

    def _load(self, state: State) -> None:
        for name, parameter in self.parameters.items():
            parameter.data = torch.tensor(state[name], dtype=self.dtype)
            slots = {slot: torch.tensor(state[f"{slot} {name}"], dtype=self.dtype) for slot in self.slots}
            self.optimizer.state[parameter] = {"step": torch.tensor(float(state["step"]))} | slots
        if state["step"] == 0:  # torch initializes its own state
            self.optimizer.state.clear()

    def _move_constants(self, off: Constants) -> None:
        for name, value in self.constants.items():
            if off is not None:
                value = tuple(map(off, value)) if isinstance(value, tuple) else off(value)
            self.optimizer.param_groups[0][name] = value

    def _state(self, before: State) -> State:
        state = {"step": before["step"] + 1}  # an optimizer that counts replaces it below
        state |= {name: parameter.detach().numpy().copy() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            kept = self.optimizer.state[parameter]
            state |= {f"{slot} {name}": kept[slot].numpy().copy() for slot in self.slots}
            if self.recipe.algorithm.counter:
                state["step"] = kept["step"].numpy().copy()
        return state
