"""The arguments of `crosscheck.check` as values of a problem, and sentences for those that do not fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import jax
import numpy as np
import torch

from crosscheck.core.criterion import CRITERIA, NARROW
from crosscheck.core.finding import Precision
from crosscheck.core.problem import Arrays, canonical, is_differentiable, is_static
from crosscheck.suite.foreign_params import require_flat


def require_pair(jax_fn: Any, module: Any) -> None:
    """Check that there are a JAX function and a torch module.

    Raises:
      TypeError: one of the two is something else.
    """
    if isinstance(jax_fn, torch.nn.Module):
        swapped = " The two are swapped." * (not isinstance(module, torch.nn.Module))
        raise TypeError(f"jax_fn must be a function of params and inputs; got a torch module.{swapped}")
    if not callable(jax_fn):
        raise TypeError(f"jax_fn must be a function of params and inputs; got {type(jax_fn).__name__}.")
    if isinstance(module, type) and issubclass(module, torch.nn.Module):
        name = module.__name__
        raise TypeError(f"torch_module must be a torch.nn.Module; got the class {name}. Write {name}(...).")
    if not isinstance(module, torch.nn.Module):
        raise TypeError(
            f"torch_module must be a torch.nn.Module; got {type(module).__name__}. "
            "Give a module, and a function of it as torch_fn."
        )


def require_options(seed: Any, torch_kwargs: Any, buffers: Any) -> None:
    """Check the kinds of three options.

    Raises:
      TypeError: one of them is of another kind.
      ValueError: ``seed`` is negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed must be an integer; got {seed!r}.")
    if seed < 0:
        raise ValueError(f"seed must not be negative; got {seed}.")
    for name, value in (("torch_kwargs", torch_kwargs), ("buffers", buffers)):
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"{name} must map names to values; got {type(value).__name__}.")


def require_names(argument: str, names: Any) -> None:
    """Check that an argument is a sequence of names, or None.

    Raises:
      TypeError: it is one string, or no sequence.
    """
    if isinstance(names, str):
        raise TypeError(f"{argument} must be a sequence of names; got the string {names!r}. Write [{names!r}].")
    if names is not None and not isinstance(names, Iterable):
        raise TypeError(f"{argument} must be a sequence of names; got {type(names).__name__}.")


def canonical_dtypes(dtypes: Any) -> tuple[Precision, ...]:
    """Return the precision checks by name. A dtype of torch, JAX or NumPy counts as its name.

    Raises:
      ValueError: there is no such precision check, or none is asked for.
    """
    known: tuple[Precision, ...] = (*CRITERIA, *NARROW)
    given = () if isinstance(dtypes, str) or not isinstance(dtypes, Iterable) else tuple(dtypes)
    names = tuple(map(_dtype_name, given))
    if not names or any(name not in known for name in names):
        raise ValueError(f"dtypes must be a sequence of some of {', '.join(known)}; got {given or dtypes!r}.")
    return tuple(name for name in known if name in names)


def _dtype_name(dtype: Any) -> str:
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, torch.dtype):
        return str(dtype).removeprefix("torch.")
    try:
        return "" if dtype is None else np.dtype(dtype).name
    except TypeError:
        return ""


def canonical_params(params: Any, module: torch.nn.Module) -> Arrays:
    """Return the parameters by name, in the module's order.

    Raises:
      TypeError: ``params`` is no mapping of names to arrays.
      ValueError: names or shapes are not the module's.
    """
    require_flat(params)
    own = dict(module.named_parameters())
    missing, extra = sorted(own.keys() - params.keys()), sorted(params.keys() - own.keys())
    if missing or extra:
        raise ValueError(
            "params must have exactly the names of torch_module.named_parameters(): "
            f"missing {missing or 'none'}, unknown {extra or 'none'}.{_hint(missing, extra, module)} "
            "Tied parameters are named once."
        )
    return {name: _like(f"params[{name!r}]", params[name], parameter) for name, parameter in own.items()}


def canonical_buffers(buffers: Mapping[str, Any], module: torch.nn.Module) -> Arrays:
    """Return arrays that replace the module's buffers of these names.

    Raises:
      ValueError: there is no such buffer, or its shape is another one.
    """
    own = dict(module.named_buffers())
    for name, value in buffers.items():
        if name not in own or tuple(own[name].shape) != tuple(np.shape(value)):
            shapes = {name: tuple(b.shape) for name, b in own.items()}
            raise ValueError(
                f"buffers[{name!r}] must be one of the module's buffers {shapes}; got shape {tuple(np.shape(value))}."
            )
    return {name: _like(f"buffers[{name!r}]", value, own[name]) for name, value in buffers.items()}


def canonical_inputs(inputs: Any) -> tuple[Any, ...]:
    """Return the inputs with canonical arrays. Static leaves stay as they are.

    Raises:
      TypeError: ``inputs`` is no sequence.
    """
    if not isinstance(inputs, tuple | list):
        raise TypeError(
            f"inputs must be a tuple of pytrees, one per argument; got {type(inputs).__name__}. Write (x,)."
        )
    values: tuple[Any, ...] = jax.tree.map(lambda a: a if is_static(a) else canonical(a), tuple(inputs))
    return values


def input_names(jax_fn: Callable[..., Any], inputs: tuple[Any, ...], params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a name per leaf: the argument's name in jax_fn's signature, or "input 0" and so on if it has none."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(inputs)[0]]
    arguments = _argument_names(jax_fn, len(inputs))
    own = tuple(f"{arguments[path[0].idx]}{jax.tree_util.keystr(path[1:])}" for path in paths)
    if len(set(own)) == len(own) and not set(own) & set(params):
        return own
    return tuple(f"input {path[0].idx}{jax.tree_util.keystr(path[1:])}" for path in paths)


def chosen_names(wrt: Iterable[str] | None, params: Arrays, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names to differentiate with respect to; by default all that can be.

    Raises:
      TypeError: ``wrt`` is no sequence of names.
      ValueError: a name is unknown, or is given twice.
    """
    require_names("wrt", wrt)
    known = [name for name, a in {**params, **inputs}.items() if is_differentiable(a)]
    chosen = tuple(known if wrt is None else wrt)
    for name in chosen:
        if name not in known:
            raise ValueError(f"wrt must name floating-point params or inputs; got {name!r}, known: {', '.join(known)}.")
        if chosen.count(name) > 1:
            raise ValueError(f"wrt must name each param or input once; got {name!r} {chosen.count(name)} times.")
    return chosen


def random_like(rng: np.random.Generator, a: Any) -> np.ndarray:
    """Return random normal numbers in the shape of ``a``, complex if it is complex, and zeros if it holds integers."""
    shape = np.shape(a)
    if not is_differentiable(a):
        return np.zeros(shape)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape) if np.iscomplexobj(a) else rng.normal(size=shape)


def longest_axis(inputs: tuple[Any, ...]) -> int:
    """Return T, over which rounding accumulates: the longest axis, since a sum may run over any of them."""
    arrays = [leaf for leaf in jax.tree.leaves(inputs) if not is_static(leaf)]
    return max((n for array in arrays for n in np.shape(array)), default=1)


def _like(what: str, value: Any, own: torch.Tensor) -> np.ndarray:
    """Return a value in the kind of numbers that the module's own tensor has."""
    if tuple(np.shape(value)) != tuple(own.shape):
        raise ValueError(f"{what} must have shape {tuple(own.shape)}; got {tuple(np.shape(value))}.")
    array = canonical(value)
    if own.is_complex():
        return array.astype(np.complex128)
    if np.iscomplexobj(array):
        raise TypeError(f"{what} must hold real numbers, as in the module; got {array.dtype}.")
    return array.astype(np.float64) if own.is_floating_point() else array


def _hint(missing: Sequence[str], extra: Sequence[str], module: torch.nn.Module) -> str:
    """Return a hint about what unknown names may mean."""
    buffers = [name for name in extra if name in dict(module.named_buffers())]
    if buffers:
        return f" {buffers} are buffers: leave them out, or give them as buffers=."
    if extra and isinstance(module, torch.jit.ScriptModule) and not list(module.parameters()):
        return " A frozen TorchScript module has no parameters: give the module before torch.jit.freeze."
    close = {name: get_close_matches(name, missing, n=1) for name in extra}
    meant = ", ".join(f"{near[0]!r} for {name!r}" for name, near in close.items() if near)
    return f" Did you mean {meant}?" if meant else ""


def _argument_names(jax_fn: Callable[..., Any], count: int) -> list[str]:
    numbered = [f"input {n}" for n in range(count)]
    try:
        named = [
            p.name
            for p in inspect.signature(jax_fn).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return numbered
    return named[1 : count + 1] if len(named) > count else numbered
