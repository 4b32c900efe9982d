"""Parameters that are no dict of torch's names are refused, with an example that maps them. The example runs."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import crosscheck
from crosscheck.suite import foreign_params

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, name="dense")(x)


class Nnx(nnx.Module):
    def __init__(self):
        self.dense = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.dense(x)


def refused(params, module=None):
    module = module or torch.nn.Linear(3, 2)
    with pytest.raises((TypeError, ValueError)) as caught:
        crosscheck.check(lambda p, x: x, module, params, (X,))
    return type(caught.value), str(caught.value)


def agrees(example, **names):
    module = torch.nn.Linear(3, 2)
    port = eval(example, {"jax": jax, **names})
    verdict = crosscheck.check(port, module, dict(module.named_parameters()), (X,))
    assert verdict, str(verdict)


def test_flax_nnx():
    graphdef, state = nnx.split(Nnx())
    kind, text = refused(Nnx())
    assert kind is TypeError
    assert text == (
        "params must map names to arrays; got an nnx.Module (Nnx). Keep torch's names in params, and map them inside "
        f"jax_fn, such as {foreign_params.NNX}."
    )
    assert "got an nnx.State (State)" in refused(state)[1]
    agrees(foreign_params.NNX, nnx=nnx, graphdef=graphdef)


def test_flax_linen():
    variables = Linen().init(jax.random.key(0), jnp.ones((1, 3)))
    kind, text = refused(variables)
    assert kind is TypeError
    assert "got nested dicts, such as at 'params'." in text
    assert foreign_params.FLAX in text
    assert "nested dicts, such as at 'dense'" in refused(variables["params"])[1]
    assert "nested dicts with batch_stats" in refused({**variables, "batch_stats": {}})[1]
    agrees(foreign_params.FLAX, model=Linen())


def test_equinox():
    eqx = need("equinox")
    model = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    kind, text = refused(model)
    assert kind is TypeError
    assert "got an eqx.Module (Linear)." in text
    example, _, rest = foreign_params.EQUINOX.partition("; ")
    assert example in text
    assert "eqx.combine" in rest
    agrees(example, eqx=eqx, model=model)


def test_names_that_are_nearly_right():
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    params = dict(module.named_parameters())
    misspelt = {name.replace("weight", "wieght"): p for name, p in params.items()}
    kind, text = refused(misspelt, module)
    assert kind is ValueError
    assert "Did you mean '0.weight' for '0.wieght', '1.weight' for '1.wieght'?" in text
    _, text = refused(module.state_dict(), module)
    assert "['1.num_batches_tracked', '1.running_mean', '1.running_var'] are buffers: leave them out" in text
    assert "write dict(torch_module.named_parameters())" in refused(module, module)[1]


def test_values_take_the_kind_of_numbers_of_the_module():
    module = torch.nn.Linear(1, 1, bias=False)
    verdict = crosscheck.check(lambda p, x: x @ p["weight"].T, module, {"weight": np.array([[3]])}, (X[:, :1],))
    assert verdict, str(verdict)
    kind, text = refused({"weight": np.array([[3j]])}, module)
    assert (kind, text) == (TypeError, "params['weight'] must hold real numbers, as in the module; got complex128.")
