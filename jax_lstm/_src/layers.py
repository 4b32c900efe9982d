"""What the linen and the nnx modules share: checks, casts and the two layers around an LSTM, as functions."""

from __future__ import annotations

import functools
import inspect
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from jax.sharding import NamedSharding, PartitionSpec

from jax_lstm._src.dtypes import carry_dtype_of, compute_dtype
from jax_lstm._src.lstm import lstm_cell
from jax_lstm._src.state import LSTMState
from jax_lstm._src.trees import every_step, vary_alike

F = TypeVar("F", bound=Callable[..., Any])
_ENTRY = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(_l\d+(_reverse)?)?")


def feature_size(x: Any) -> int:
    """D, the last axis of x."""
    if not hasattr(x, "shape") or len(x.shape) < 1:
        raise TypeError(f"x must be an array whose last axis is D; got {type(x).__name__}.")
    return x.shape[-1]


def cast(dtype: Any, tree: Any) -> Any:
    """Floating-point leaves in ``dtype``; None leaves all as they are."""

    def leaf(a):
        return a.astype(dtype) if hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.floating) else a

    return tree if dtype is None else jax.tree.map(leaf, tree)


def run_cell(params: dict, state: LSTMState, x: Any, carry_dtype: Any, precision: Any) -> tuple[LSTMState, jax.Array]:
    """One step: the next state in ``carry_dtype``, and h in the compute dtype, the result type of x and the weights."""
    y_dtype = compute_dtype(x, params)
    state = lstm_cell(params, state, x, precision=precision)
    return LSTMState(state.h.astype(carry_dtype), state.c.astype(carry_dtype)), state.h.astype(y_dtype)


def state_dtype(carry_dtype: Any, dtype: Any, weights: Iterable[Any], param_dtype: Any) -> Any:
    """Return the dtype of a module's zero state.

    It is ``carry_dtype``, or that of the computation, float32 if that is narrower: ``dtype``, or what the ``weights``
    have, as far as they are known, or ``param_dtype``.
    """
    known = [weight.dtype for weight in weights]
    return carry_dtype_of(carry_dtype, *([dtype] if dtype is not None else known or [param_dtype]))


def zero_carry(input_shape: tuple[int, ...], hidden_size: int, dtype: Any) -> LSTMState:
    shape = (*input_shape[:-1], hidden_size)
    return LSTMState(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def is_ours(module: Any) -> bool:
    """Return whether a module's class is defined in this package, and not a subclass of a user's."""
    return type(module).__module__.partition(".")[0] == __name__.partition(".")[0]


def state_dict_entries(given: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of ``given`` that have a name of a torch state dict. A subclass may declare others."""
    return {name: value for name, value in given.items() if _ENTRY.fullmatch(name)}


def sizes_by_position(in_torch: str) -> Callable[[F], F]:
    """Decorate an ``__init__`` so that a surplus positional argument is an error that says what to write.

    ``in_torch`` shows torch's call beside ours; ``{0}`` and the like in it are the arguments that came.
    """

    def decorate(init: F) -> F:
        parameters = inspect.signature(init).parameters.values()
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return init  # a subclass's own, which says itself what it takes
        by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        sizes = [name for name in by_position if name not in ("self", "parent", "name")]  # the last two are Flax's

        @functools.wraps(init)
        def checked(self: Any, *args: Any, **options: Any) -> None:
            if len(args) > len(sizes):
                came = [reprlib.repr(value) for value in args]
                raise TypeError(
                    f"{type(self).__name__} takes {', '.join(sizes)} by position and every other option by name; got "
                    f"{len(args)} by position: {', '.join(came)}. {in_torch.format(*came)}".rstrip()
                )
            init(self, *args, **options)

        return checked  # type: ignore[return-value]

    return decorate


class SizesByPosition:
    """Makes :func:`sizes_by_position` hold for a linen module and its subclasses. Comes before nn.Module as a base."""

    _in_torch = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)  # here Flax makes the __init__
        cls.__init__ = sizes_by_position(cls._in_torch)(cls.__init__)  # type: ignore[method-assign]


def embed(weight: jax.Array, tokens: Any) -> jax.Array:
    """Rows of ``weight [V, E]`` for tokens int ``[*batch, T]``; one outside 0..V-1 is an error where it is known."""
    if not hasattr(tokens, "dtype") or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens must be an integer array; got {getattr(tokens, 'dtype', type(tokens).__name__)}.")
    if not isinstance(tokens, jax.core.Tracer) and tokens.size:
        known = np.asarray(tokens)
        low, high, last = int(known.min()), int(known.max()), weight.shape[0] - 1
        if low < 0 or high > last:
            raise ValueError(f"tokens must lie between 0 and vocab_size - 1 = {last}; got {low} to {high}.")
    tokens = jnp.asarray(tokens)
    sharding = jax.typeof(tokens).sharding  # on an explicit mesh the rows lie where their tokens do
    sharded = any(axis is not None for axis in sharding.spec)
    out = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec, None)) if sharded else None
    return jnp.asarray(weight).at[tokens].get(out_sharding=out)


def linear(weight: jax.Array, bias: jax.Array, x: jax.Array, precision: Any) -> jax.Array:
    """``x [..., in]`` times ``weight [out, in]`` transposed, plus ``bias [out]``."""
    weight, bias, x = vary_alike((weight, bias, x))
    return jnp.matmul(x, weight.T, precision=precision) + every_step(bias, x)


def _state_dict(state: LSTMState) -> dict[str, Any]:
    return {name: serialization.to_state_dict(getattr(state, name)) for name in ("h", "c")}


def _from_state_dict(state: LSTMState, given: dict[str, Any]) -> LSTMState:
    return LSTMState(*(serialization.from_state_dict(getattr(state, n), given[n], name=n) for n in ("h", "c")))


serialization.register_serialization_state(LSTMState, _state_dict, _from_state_dict)


def uniform_init(fan_in: int):
    """U(±1/√fan_in), torch.nn.Linear's initial weights and biases."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)
