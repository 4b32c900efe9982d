"""Training in JAX: linen.SequenceModel and optax, one jitted step from any state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import unflatten_dict
from jax.tree_util import keystr

from crosscheck.core.jax_runner import jax_precision
from crosscheck.studies.training.optimizers import clip_as_torch
from crosscheck.studies.training.recipe import Recipe
from crosscheck.studies.training.state import GRADIENT_NORM, LOSS, VALIDATION, State, carried, parameters
from jax_lstm import linen


class JaxTrainer:
    """``step`` on named arrays, as the torch side has it; optax keeps its state by name, since the parameters are."""

    def __init__(self, recipe: Recipe, dtype: str):
        self.recipe, self.dtype = recipe, dtype
        size = recipe.corpus.vocabulary
        sizes = (size, recipe.embedding_size, recipe.hidden_size, size)
        self.model = linen.SequenceModel(*sizes, num_layers=recipe.num_layers)
        clip = () if recipe.clip is None else (clip_as_torch(recipe.clip),)
        self.optimizer = optax.chain(*clip, recipe.algorithm.optax(recipe.rate))
        self._step, self._evaluate = jax.jit(self._step_of), jax.jit(self._loss)

    def step(self, state: State, tokens: np.ndarray) -> State:
        """The state after one step on a batch, with the loss and the gradient's norm that it had."""
        with jax_precision(self.dtype):
            new = self._step(self._cast(carried(state)), tokens.astype(np.int32))
            return {name: np.asarray(value) for name, value in new.items()}

    def validation(self, state: State) -> dict[str, np.ndarray]:
        with jax_precision(self.dtype):
            params = {name: state[name] for name in parameters(state)}
            return {VALIDATION: np.asarray(self._evaluate(self._cast(params), self.recipe.held_out().astype(np.int32)))}

    def _loss(self, params, tokens):
        logits, _ = self.model.apply({"params": unflatten_dict(params, sep=".")}, tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def _step_of(self, state, tokens):
        algorithm, names = self.recipe.algorithm, parameters(state)
        params = {name: state[name] for name in names}
        kept = {there: {name: state[f"{here} {name}"] for name in names} for here, there in algorithm.slots.items()}
        if algorithm.counter:
            kept[algorithm.counter] = state["step"].astype(jnp.int32)
        memory = self._with_rest(optax.tree.set(self.optimizer.init(params), **kept), state)
        loss, gradients = jax.value_and_grad(self._loss)(params, tokens)
        updates, memory = self.optimizer.update(gradients, memory, params)
        new = optax.apply_updates(params, updates)
        for here, there in algorithm.slots.items():
            new |= {f"{here} {name}": value for name, value in optax.tree.get(memory, there).items()}
        count = optax.tree.get(memory, algorithm.counter) if algorithm.counter else state["step"] + 1
        return new | self._rest(memory) | {"step": count, LOSS: loss, GRADIENT_NORM: optax.tree.norm(gradients)}

    def _rest(self, memory):
        """What optax keeps and torch has no name for, by its place; a trajectory carries it on."""
        known = {*self.recipe.algorithm.slots.values(), self.recipe.algorithm.counter}
        leaves = jax.tree_util.tree_leaves_with_path(memory)
        return {f"optax {keystr(p)}": a for p, a in leaves if not any(getattr(k, "name", "") in known for k in p)}

    def _with_rest(self, memory, state):
        """Whatever a state does not have, such as the truth's, starts anew."""
        kept = lambda path, a: jnp.asarray(state.get(f"optax {keystr(path)}", a), a.dtype)
        return jax.tree_util.tree_map_with_path(kept, memory)

    def _cast(self, state):
        return {name: np.asarray(value, self.dtype) for name, value in state.items()}
