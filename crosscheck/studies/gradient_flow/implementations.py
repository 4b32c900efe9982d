"""The two implementations of the study. Each takes one network and returns binary logarithms by name.

jax_lstm applies Jacobians and never forms them. torch_ref forms them by torch.func.jacrev. Norms of gradients are
compared at every step, singular values at every ``every``-th one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import numpy as np
import torch

import jax_lstm
import torch_ref
from crosscheck.core.jax_runner import jax_precision
from crosscheck.core.problem import Problem, Results
from crosscheck.core.torch_runner import full_precision
from crosscheck.studies.gradient_flow.network import CellKind, FlowNetwork
from jax_lstm._src.elman import Nonlinearity

ADJOINT = ("dh", "dc", "along_c", "through_h")
STEP, PRODUCT = ("step_max", "step_min"), ("product_max", "product_min")


def run_in_jax(network: FlowNetwork) -> Results:
    """Return what jax_lstm.gradient_flow measures in float64, jitted, with singular values at every step."""
    with jax_precision("float64"):
        flow = jax.device_get(_jitted(network.kind, network.nonlinearity)(network.params, network.x, network.dh))
    logs = {name: getattr(flow, f"log2_{name}") for name in (*ADJOINT, *STEP, *PRODUCT)}
    return {name: np.asarray(a) for name, a in logs.items() if a is not None}


def thinned(logs: Results, every: int) -> Results:
    """Keep the singular values that `run_in_torch` measures: J_t and ds_T/ds_t at every ``every``-th t."""
    return {n: a[::every] if n in STEP else a[:-1:every] if n in PRODUCT else a for n, a in logs.items()}


@lru_cache(maxsize=8)
def _jitted(kind: CellKind, nonlinearity: Nonlinearity) -> Any:
    def measure(params: dict[str, jax.Array], x: jax.Array, dh: jax.Array) -> jax_lstm.GradientFlow:
        last = dh[None] if kind == "rnn" else jax_lstm.LSTMState(h=dh[None], c=0 * dh[None])
        return jax_lstm.gradient_flow(params, x, dstate=last, nonlinearity=nonlinearity)

    return jax.jit(measure)


def run_in_torch(network: FlowNetwork, problem: Problem, every: int = 1) -> Results:
    """Return what torch_ref.gradient_flow measures in float64, at the weights and inputs of ``problem``."""
    x, dh = (torch.tensor(np.asarray(a)) for a in problem.inputs)
    sizes = (x.shape[1], len(dh))
    with full_precision():
        if network.kind == "rnn":
            module: Any = torch_ref.RNN(*sizes, nonlinearity=network.nonlinearity, dtype=torch.float64)
        else:
            module = torch_ref.LSTM(*sizes, dtype=torch.float64)
        module.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in problem.params.items()})
        flow = torch_ref.gradient_flow(module, x, dh_n=dh, every=every)
    return {name: a.numpy() for name, a in vars(flow).items() if a is not None}
