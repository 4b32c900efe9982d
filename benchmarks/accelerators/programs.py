"""The programs to compile: a forward pass and a training step of jax_lstm and of other libraries.

x is ``[B, T, D]``, as most users have it. A training step is the mean of y², with its gradients of the weights and x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import jax_lstm
from benchmarks.accelerators.targets import TARGETS, devices_of
from benchmarks.shapes import Shape
from crosscheck.libraries import load_library
from crosscheck.lstm.cases import RecurrentCase

Function: TypeAlias = Callable[..., Any]
KINDS = ("forward", "training")
LIBRARIES = {"flax": "flax_linen", "haiku": "haiku", "equinox": "equinox"}  # by the files of `crosscheck.libraries`
IMPLEMENTATIONS = ("jax_lstm", *LIBRARIES)


def network(name: str, shape: Shape, dtype: str, **options: Any) -> tuple[Function, Any, jax.ShapeDtypeStruct]:
    """Return ``apply(weights, x) -> y`` of an implementation, and its arguments as shapes and dtypes.

    Args:
      name: one of IMPLEMENTATIONS.
      shape: the sizes.
      dtype: of weights, x and y.
      **options: ``num_layers``, ``bidirectional`` and ``proj_size`` of the network; the others are options of
      `jax_lstm.lstm`, for jax_lstm only.
    """
    sizes = {key: options.pop(key) for key in ("num_layers", "bidirectional", "proj_size") if key in options}
    case = RecurrentCase("", "", shape.batch, shape.steps, shape.inputs, shape.hidden, **sizes)
    params = {key: jax.ShapeDtypeStruct(size, dtype) for key, size in case.shapes().items()}
    x = jax.ShapeDtypeStruct((shape.batch, shape.steps, shape.inputs), dtype)
    if name == "jax_lstm":
        return (lambda params, x: jax_lstm.lstm(params, x, **options)[0]), params, x
    adapter = load_library(LIBRARIES[name]).adapter(case)
    return (lambda weights, x: adapter.run(weights, x, None, None)[0]), jax.eval_shape(adapter.write, params), x


def training_step(apply: Function) -> Function:
    """Return the function that gives the loss and its gradients."""

    def loss(weights: Any, x: jax.Array) -> jax.Array:
        return jnp.mean(apply(weights, x).astype(jnp.float32) ** 2)

    return jax.value_and_grad(loss, argnums=(0, 1))


def compile_for(target: str, function: Function, weights: Any, *batched: Any) -> Any:
    """Compile ``function(weights, *batched)`` for a target. It needs no device.

    On several devices the first axis of the batched arguments is divided, and the weights lie on every device.

    Args:
      target: one of TARGETS.
      function: the function.
      weights, batched: arguments, or their shapes and dtypes.
    """
    devices = devices_of(target)
    replicated: Any = SingleDeviceSharding(devices[0])
    divided = replicated
    if len(devices) > 1:
        mesh = Mesh(np.array(devices), ("data",))
        replicated, divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    arguments = (_placed(weights, replicated), *(_placed(each, divided) for each in batched))
    traced = jax.jit(function).trace(*arguments)
    return traced.lower(lowering_platforms=(TARGETS[target].platform,)).compile()


def _placed(tree: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def compile_network(target: str, name: str, shape: Shape, kind: str, dtype: str, **options: Any) -> Any:
    """Compile a forward pass or a training step of an implementation, as :func:`network` describes it."""
    apply, weights, x = network(name, shape, dtype, **options)
    return compile_for(target, training_step(apply) if kind == "training" else apply, weights, x)
