"""The options of a recurrent network, checked once, before any computation.

`OptionArguments` has their types for callers, and `Options` their defaults. Every function with
``**options`` gets its signature from them, and a Flax module passes the options that it holds by
`options_of_module`. Only `jax_lstm.lstm` and the constructors of the Flax modules list the options again,
so that editors show them; tests/jax_lstm/test_types.py compares the lists.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jax_lstm._src.arrays import ArrayLike, DTypeLike, Listed, Precision
from jax_lstm._src.checks import is_int, refuse_torch, require_floating_dtype
from jax_lstm._src.state import LSTMState

Backend = Literal["auto", "scan", "native", "cudnn", "pallas"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
ARRAYS = ("lengths", "mask", "reset", "reset_state", "dropout_key")  # the other options are fixed while tracing

Function = TypeVar("Function", bound=Callable[..., Any])


class OptionArguments(TypedDict, total=False):
    """The keyword arguments of `jax_lstm.lstm`, which documents them."""

    lengths: Listed | None
    mask: Listed | None
    reset: Listed | None
    reset_state: LSTMState | ArrayLike | None
    time_major: bool
    dropout: float
    dropout_key: ArrayLike | None
    checkpoint_every: int | None
    truncate_every: int | None
    carry_dtype: DTypeLike | None
    backend: Backend
    unroll: int
    precision: Precision


@dataclass(frozen=True)
class Options:
    """The options of one call, with their defaults."""

    lengths: Listed | None = None
    mask: Listed | None = None
    reset: Listed | None = None
    reset_state: LSTMState | ArrayLike | None = None  # an LSTMState; for an RNN an array
    time_major: bool = False
    dropout: float = 0.0
    dropout_key: ArrayLike | None = None
    checkpoint_every: int | None = None
    truncate_every: int | None = None
    carry_dtype: DTypeLike | None = None
    backend: Backend = "auto"
    unroll: int = 1
    precision: Precision = None

    def check(self, x_shape: tuple[int, ...]) -> None:
        """Raise ValueError or TypeError that names the option, what is expected and what was given."""
        _check_one_of("backend", self.backend, BACKENDS)
        for name in ("checkpoint_every", "truncate_every"):
            _check_positive(name, getattr(self, name), or_none=True)
        _check_positive("unroll", self.unroll)
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, (int, float, np.number)):
            raise TypeError(f"dropout must be a number from 0 to 1; got {self.dropout!r}.")
        if not 0.0 <= self.dropout <= 1.0:
            raise ValueError(f"dropout must be a probability from 0 to 1; got {self.dropout}.")
        if self.dropout and self.dropout_key is None:
            raise ValueError(
                f"dropout={self.dropout} needs dropout_key=jax.random.key(...), a fresh one per call; "
                "got None. To evaluate, leave dropout at 0."
            )
        if self.carry_dtype is not None:
            require_floating_dtype("carry_dtype", self.carry_dtype)
        time_axis = 0 if self.time_major else len(x_shape) - 2
        batch = (*x_shape[:time_axis], *x_shape[time_axis + 1 : -1])
        if self.lengths is not None:
            _check_lengths(self.lengths, batch, x_shape[time_axis])
        layout = "[T, *batch]" if self.time_major else "[*batch, T]"
        for name in ("mask", "reset"):
            _check_flags(name, getattr(self, name), x_shape[:-1], layout)
        if self.reset_state is not None and self.reset is None:
            raise ValueError(
                "reset_state is the state that a reset goes back to, and needs reset, bool "
                f"{layout}; got reset=None. The state before the first step is state."
            )

    def split(self) -> tuple[Options, dict[str, Any]]:
        """Return the options without their arrays, for a static argument of jax.jit, and the arrays by name."""
        none: dict[str, Any] = dict.fromkeys(ARRAYS)
        arrays = {name: getattr(self, name) for name in ARRAYS}
        from_lists = {name: np.asarray(a) for name, a in arrays.items() if isinstance(a, (list, tuple))}  # for jax.tree
        return (
            dataclasses.replace(self, **none, precision=hashable(self.precision)),
            jax.tree.map(jnp.asarray, arrays | from_lists),
        )


def options_of_module(module: object) -> dict[str, Any]:
    """Return the options that a Flax module holds as attributes: all but the arrays and dropout."""
    names = (field.name for field in dataclasses.fields(Options) if field.name not in (*ARRAYS, "dropout"))
    return {name: getattr(module, name) for name in names}


def hashable(precision: Any) -> Any:
    """Return a precision as a static argument of jax.jit: a list, which JAX takes for the two factors, as a tuple."""
    return tuple(precision) if isinstance(precision, list) else precision


def show_options(function: Function) -> Function:
    """Decorate a function with ``**options``, so that inspect.signature and help() show each option by name."""
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in dataclasses.fields(Options)
    ]
    function.__signature__ = signature.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]
    return function


def _check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}.")


def _check_positive(name: str, value: Any, or_none: bool = False) -> None:
    if value is None and or_none:
        return
    if not is_int(value):
        raise TypeError(f"{name} must be an int{' or None' if or_none else ''}; got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}.")


def _check_lengths(given: Listed, batch: tuple[int, ...], steps: int) -> None:
    refuse_torch(given)
    lengths: Any = given if hasattr(given, "dtype") else np.asarray(given)
    if np.shape(lengths) != batch:
        raise ValueError(f"lengths must have x's batch shape {batch}; got shape {np.shape(lengths)}.")
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"lengths must be integers; got dtype {lengths.dtype}.")
    if isinstance(lengths, jax.core.Tracer):
        return  # values are unknown here; a length over T then counts as T, and a negative one as 0
    wrong = [int(n) for n in np.asarray(lengths).flat if not 0 <= n <= steps]
    if wrong:
        raise ValueError(f"lengths must lie between 0 and T = {steps}; got {wrong[0]}. Is x cut short, or padded less?")


def _check_flags(name: str, given: Listed | None, shape: tuple[int, ...], layout: str) -> None:
    if given is None:
        return
    refuse_torch(given)
    flags: Any = given if hasattr(given, "dtype") else np.asarray(given)
    if np.shape(flags) != shape:
        raise ValueError(f"{name} must be {layout} = {shape}, one flag per step; got shape {np.shape(flags)}.")
    if flags.dtype != jnp.bool_:
        raise TypeError(f"{name} must be bool; got dtype {flags.dtype}. Write {name}.astype(bool).")
