"""Training in JAX: linen.SequenceModel and optax, one jitted step from any state."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import unflatten_dict
from jax.tree_util import keystr

from crosscheck.core.jax_runner import jax_precision
from crosscheck.studies.training.optimizers import clip_as_torch
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.state import GRADIENT_NORM, LOSS, VALIDATION, State, carried
from jax_lstm import linen

Arrays: TypeAlias = dict[str, jax.Array]


class JaxTrainer:
    """Training steps on named arrays. optax keeps its state by name, because parameters have names."""

    def __init__(self, recipe: Recipe, dtype: str) -> None:
        self.recipe, self.dtype = recipe, dtype
        size = recipe.corpus.vocabulary
        sizes = (size, recipe.embedding_size, recipe.hidden_size, size)
        self.model = linen.SequenceModel(*sizes, num_layers=recipe.num_layers)
        clip = () if recipe.clip is None else (clip_as_torch(recipe.clip),)
        self.optimizer = optax.chain(*clip, recipe.algorithm.optax(recipe.rate))
        self._step, self._evaluate = jax.jit(self._step_of), jax.jit(self._loss)

    def step(self, state: State, tokens: np.ndarray) -> State:
        """Return the state after one step on a batch, with its loss and its gradient's norm."""
        with jax_precision(self.dtype):
            new = self._step(self._cast(carried(state)), tokens.astype(np.int32))
            return {name: np.asarray(value) for name, value in new.items()}

    def validation(self, state: State) -> State:
        """Return the loss on held-out text."""
        with jax_precision(self.dtype):
            params = {name: state[name] for name in self.recipe.parameters}
            return {VALIDATION: np.asarray(self._evaluate(self._cast(params), self.recipe.held_out().astype(np.int32)))}

    def _loss(self, params: Arrays, tokens: jax.Array) -> jax.Array:
        logits, _ = self.model.apply({"params": unflatten_dict(params, sep=".")}, tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def _step_of(self, state: Arrays, tokens: jax.Array) -> Arrays:
        params = {name: state[name] for name in self.recipe.parameters}
        kept = lambda path, a: jnp.asarray(state.get(self._name(path), a), a.dtype)
        memory = jax.tree_util.tree_map_with_path(kept, self.optimizer.init(params))
        loss, gradients = jax.value_and_grad(self._loss)(params, tokens)
        updates, memory = self.optimizer.update(gradients, memory, params)
        new = {"step": state["step"] + 1} | optax.apply_updates(params, updates)  # an optimizer that counts replaces it
        new |= {self._name(path): a for path, a in jax.tree_util.tree_leaves_with_path(memory)}
        return new | {LOSS: loss, GRADIENT_NORM: optax.tree.norm(gradients)}

    def _name(self, path: tuple[Any, ...]) -> str:
        """Return the name of what optax keeps: torch's name, or its place if torch has no such name.

        A trajectory carries on what torch does not have. A state that lacks it, such as the truth's, starts it anew.
        """
        algorithm, fields = self.recipe.algorithm, {getattr(key, "name", "") for key in path}
        if algorithm.counter in fields:
            return "step"
        slot = next((here for here, there in algorithm.slots.items() if there in fields), None)
        return f"optax {keystr(path)}" if slot is None else f"{slot} {path[-1].key}"

    def _cast(self, state: State) -> State:
        return {name: np.asarray(value, self.dtype) for name, value in state.items()}
