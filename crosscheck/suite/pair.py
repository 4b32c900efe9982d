"""`crosscheck.check`: a JAX function against a torch module, on shared arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from crosscheck.core.finding import Precision
from crosscheck.core.verdict import Verdict
from crosscheck.suite.arguments import canonical_dtypes
from crosscheck.suite.judging import judge
from crosscheck.suite.preparation import set_up


def check(
    jax_fn: Callable[..., Any],
    torch_module: torch.nn.Module,
    params: Mapping[str, Any],
    inputs: Sequence[Any],
    *,
    torch_fn: Callable[..., Any] | None = None,
    output_names: Sequence[str] | None = None,
    cotangents: Any = None,
    seed: int = 0,
    wrt: Iterable[str] | None = None,
    buffers: Mapping[str, Any] | None = None,
    train: bool = False,
    torch_kwargs: Mapping[str, Any] | None = None,
    second_order: bool = False,
    dtypes: Sequence[Precision] = ("float64", "float32"),
) -> Verdict:
    """Judge whether a JAX function and a torch module compute the same outputs and the same gradients.

    The truth is the torch module in `float64`. Everything is compared in `float64` and in `float32`. The limits are
    measured on this problem; see `crosscheck.core.criterion`. If T is not known, the longest axis of the inputs counts
    as T.

    Outputs are matched by their places: keys of dicts, mappings and dataclasses in any order, sequences by index. None
    is left out. A PackedSequence is padded with zeros. It is compared batch first, or time steps first if jax_fn
    returns that shape.

    Params, inputs and outputs may be complex. The gradient with respect to a complex number z is torch's,
    dL/d(Re z) + i dL/d(Im z) for a real loss L. jax.vjp gives the conjugate of it for conjugated cotangents. The check
    allows for that, so that jax_fn needs no change. A complex result counts as a real one with a last axis of two.

    Args:
      jax_fn: `jax_fn(params, *inputs)` returns a pytree of arrays. It is jitted, and differentiated by jax.vjp. If it
        closes over NumPy arrays, the check empties JAX's caches, so that other jitted functions compile again.
      torch_module: `torch_module(*inputs)` returns the same structure of tensors. A deep copy of it runs, in eval mode.
        It may be, or contain, a TorchScript module.
      params: arrays by the names of `torch_module.named_parameters()`. jax_fn receives this dict.
      inputs: a sequence of pytrees of arrays, such as `(x, (h0, c0))`. Integer and bool arrays do not change. Leaves
        that are no arrays are static: Python ints, bools, strings and other objects go to both sides as they are. A
        Python float is an array.
      torch_fn: `torch_fn(module, *inputs)` runs in place of `module(*inputs)`, for example to pack, or to choose
        outputs.
      output_names: a name for each output array, in the order of the torch module. The default is the keys of a mapping
        or the fields of a dataclass, and "output 0" and so on in sequences.
      cotangents: a pytree with the structure of the outputs. The default is random normal numbers from `seed`. An
        output through which torch gives no gradient, such as a running mean, has a cotangent of zero.
      seed: the seed of the random cotangents and tangents, and of the perturbations that measure the condition.
      wrt: the names to differentiate with respect to. The default is all floating-point and complex params and inputs.
        Inputs have the names of jax_fn's arguments, such as "x" and "state[0]". If it has none, they are "input 0" and
        so on.
      buffers: arrays that replace the module's buffers of these names.
      train: run the module in train mode.
      torch_kwargs: keyword arguments of the module's call, or of torch_fn's. Arrays become tensors, floating-point ones
        in the dtype of the run. They are neither perturbed nor differentiated. Other values are passed as they are.
      second_order: also compare a Hessian-vector product with respect to each name, along a random tangent.
      dtypes: the precision checks, some of "float64", "float32", "bfloat16" and "float16". The `float64` check says
        whether the two are the same function. Each other check says whether the port rounds as torch does in that
        dtype.

    Returns:
      The verdict. It is true in a condition only if it is "agree". `str(verdict)` gives it in words.

    Raises:
      TypeError: an argument is of the wrong kind. The message names it.
      ValueError: names, shapes or structures do not fit, which the message names. Or two runs of the torch module
        differ, because it draws random numbers.
      CouldNotRun: one of the two cannot compute what was asked, or their outputs have other shapes. Errors that jax_fn
        or the torch module raises keep their type.

    Examples:
      >>> import numpy as np
      >>> import torch
      >>> import crosscheck
      >>> module = torch.nn.Linear(3, 5)
      >>> params = {name: p.detach().numpy() for name, p in module.named_parameters()}
      >>> port = lambda params, x: x @ params["weight"].T + params["bias"]
      >>> verdict = crosscheck.check(port, module, params, (np.ones((2, 3)),))
      >>> bool(verdict), str(verdict.outcome)
      (True, 'agree')
    """
    dtypes = canonical_dtypes(dtypes)
    made = set_up(
        jax_fn,
        torch_module,
        params,
        inputs,
        torch_fn=torch_fn,
        output_names=output_names,
        cotangents=cotangents,
        seed=seed,
        wrt=wrt,
        buffers=buffers,
        train=train,
        torch_kwargs=torch_kwargs,
        second_order=second_order,
    )
    return judge(made, dtypes)


def assert_agree(*arguments: Any, **options: Any) -> Verdict:
    """Return the verdict of `crosscheck.check`, or raise AssertionError if it is not "agree".

    Args:
      *arguments: the positional arguments of `crosscheck.check`: `jax_fn`, `torch_module`, `params` and `inputs`.
      **options: the keyword arguments of `crosscheck.check`, such as `dtypes` and `torch_fn`.

    Returns:
      The verdict.

    Raises:
      AssertionError: the verdict is not "agree". The message is the verdict in words.
      TypeError: as `crosscheck.check`.
      ValueError: as `crosscheck.check`.
      CouldNotRun: as `crosscheck.check`.

    Examples:
      >>> import numpy as np
      >>> import torch
      >>> import crosscheck
      >>> module = torch.nn.Linear(3, 5)
      >>> params = {name: p.detach().numpy() for name, p in module.named_parameters()}
      >>> port = lambda params, x: x @ params["weight"].T + params["bias"]
      >>> verdict = crosscheck.assert_agree(port, module, params, (np.ones((2, 3)),))
    """
    __tracebackhide__ = True
    return require_agreement(check(*arguments, **options))


def require_agreement(verdict: Verdict) -> Verdict:
    """Return the verdict.

    Raises:
      AssertionError: it is not "agree".
    """
    __tracebackhide__ = True
    if not verdict.ok:
        raise AssertionError(str(verdict))
    return verdict
