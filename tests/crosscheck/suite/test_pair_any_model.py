"""crosscheck.check on what models take and return: structures, keywords, static arguments, buffers, randomness."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch.nn.utils.rnn import pack_padded_sequence

import crosscheck
import jax_lstm
from crosscheck.core.finding import Outcome
from crosscheck.core.problem import Gradient, Problem
from crosscheck.suite.arguments import random_like
from crosscheck.suite.trial import try_module

pytestmark = pytest.mark.isa

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3))


def params_of(module):
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def dense(p, x):
    return x @ p["weight"].T + p["bias"]


def linear(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Linear(3, 2)


def outputs_of(verdict):
    return [q for q in dict.fromkeys(f.quantity for f in verdict.findings) if isinstance(q, str)]


@dataclass
class ModelOutput:
    logits: torch.Tensor
    loss: torch.Tensor
    hidden: torch.Tensor | None = None


@jax.tree_util.register_dataclass
@dataclass
class Ported:
    loss: jax.Array
    logits: jax.Array


@pytest.mark.parametrize("kind", [ModelOutput, OrderedDict])
@pytest.mark.parametrize("ported", [Ported, dict])
def test_outputs_with_names_match_in_any_order(kind, ported):
    module = linear()
    fn = lambda m, x: kind(logits=m(x), loss=m(x).square().mean(), **({"hidden": None} if kind is ModelOutput else {}))
    port = lambda p, x: ported(loss=(dense(p, x) ** 2).mean(), logits=dense(p, x))
    verdict = crosscheck.check(port, module, params_of(module), (X,), torch_fn=fn)
    assert verdict, str(verdict)
    assert outputs_of(verdict) == ["logits", "loss"]
    swapped = lambda p, x: ported(logits=dense(p, x) * 1.1, loss=(dense(p, x) ** 2).mean())
    wrong = crosscheck.check(swapped, module, params_of(module), (X,), torch_fn=fn)
    assert wrong.first.quantity == "logits"


def test_cotangents_match_by_name():
    module = linear()
    fn = lambda m, x: {"a": m(x), "b": 2 * m(x)}
    port = lambda p, x: {"b": 2 * dense(p, x), "a": dense(p, x)}
    given = {"b": np.zeros((4, 2)), "a": torch.ones(4, 2)}
    verdict = crosscheck.check(port, module, params_of(module), (X,), torch_fn=fn, cotangents=given)
    assert verdict, str(verdict)
    bias = next(f for f in verdict.findings if f.quantity == Gradient("bias"))
    assert bias.norm == pytest.approx(4 * np.sqrt(2))
    assert verdict.notes == ("the cotangent of 'b' is zero: no gradient through it is compared",)


@pytest.mark.parametrize("steps_first", [False, True])
def test_a_packed_sequence_is_padded_in_the_layout_of_the_port(steps_first):
    module = torch.nn.LSTM(3, 5, batch_first=True)
    lengths = [6, 4, 2]

    def port(p, x):
        y, _ = jax_lstm.lstm(p, x, lengths=jnp.array(lengths))
        return y.swapaxes(0, 1) if steps_first else y

    pack = lambda m, x: m(pack_padded_sequence(x, torch.tensor(lengths), batch_first=True))[0]
    x = RNG.normal(size=(3, 6, 3))
    verdict = crosscheck.check(port, module, params_of(module), (x,), torch_fn=pack)
    assert verdict, str(verdict)
    layout = "time steps first" if steps_first else "batch first"
    assert f"'output 0' is a PackedSequence in torch; it is padded with zeros, {layout}" in verdict.notes


def test_keyword_arguments_reach_the_module_and_torch_fn():
    class Gated(torch.nn.Linear):
        def forward(self, x, *, scale=None, double=False):
            return super().forward(x) * scale * (2 if double else 1)

    torch.manual_seed(0)
    module, scale = Gated(3, 2), np.array([2.0, 3.0], np.float32)
    port = lambda p, x: 2 * dense(p, x) * scale.astype(x.dtype)
    for options in ({}, {"torch_fn": lambda m, x, **kwargs: m(x, **kwargs)}):
        kwargs = {"scale": scale, "double": True}
        verdict = crosscheck.check(port, module, params_of(module), (X,), torch_kwargs=kwargs, **options)
        assert verdict, str(verdict)


def test_static_arguments_go_to_both_sides():
    module = linear()

    def call(module, x, repeat, mode, sizes):
        assert (type(repeat), mode, sizes) == (int, "sum", [2, 4])
        return module(x).T.reshape(*sizes).tile(repeat)

    def port(p, x, repeat, mode, sizes):
        assert mode == "sum"
        return jnp.tile(dense(p, x).T.reshape([int(n) for n in sizes]), int(repeat))

    verdict = crosscheck.check(port, module, params_of(module), (X, 3, "sum", [2, 4]), torch_fn=call)
    assert verdict, str(verdict)
    with pytest.raises(ValueError, match="wrt must name floating-point params or inputs; got 'repeat'"):
        crosscheck.check(port, module, params_of(module), (X, 3, "sum", [2, 4]), torch_fn=call, wrt=["repeat"])


def test_a_python_float_is_an_array_and_none_stays():
    module = linear()
    call = lambda m, x, scale, mask: m(x) * scale if mask is None else x
    port = lambda p, x, scale, mask: dense(p, x) * scale if mask is None else x
    verdict = crosscheck.check(port, module, params_of(module), (X, 1.5, None), torch_fn=call)
    assert verdict, str(verdict)
    assert Gradient("scale") in {f.quantity for f in verdict.findings}


def test_a_reference_that_draws_random_numbers_in_eval_mode():
    module = linear()
    noisy = lambda m, x: torch.nn.functional.dropout(m(x), 0.5)
    message = r"^the torch module draws random numbers: two runs differ in 'output 0'.* Make other noise an input"
    with pytest.raises(ValueError, match=message):
        crosscheck.check(dense, module, params_of(module), (X,), torch_fn=noisy)


def test_an_output_without_a_gradient_in_torch():
    module = torch.nn.BatchNorm1d(3)
    call = lambda m, x: (m(x), m.running_mean)

    def port(p, x):
        y = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5) * p["weight"] + p["bias"]
        return y, 0.1 * x.mean(0)  # no stop_gradient

    for cotangents in (None, (X**2, np.ones(3))):
        options = {"torch_fn": call, "train": True, "cotangents": cotangents, "seed": 1}  # seed 0 would draw X again
        verdict = crosscheck.check(port, module, params_of(module), (X,), **options)
        assert verdict, str(verdict)
        assert verdict.notes == ("torch gives no gradient through 'output 1'; the port's is not compared",)
    wrong = lambda p, x: (port(p, x)[0], 0.2 * x.mean(0))
    assert crosscheck.check(wrong, module, params_of(module), (X,), **options).first.quantity == "output 1"


def test_the_trial_tells_which_buffers_changed():
    module = torch.nn.BatchNorm1d(3)
    problem = Problem({}, (X,), ("x",), (), (), ("x",))
    trial = try_module(module, lambda m, x: (m(x), m.running_mean.clone()), problem, train=True)
    assert trial.changed_buffers == ("running_mean", "running_var", "num_batches_tracked")
    assert trial.lost_buffers == ("running_var", "num_batches_tracked")
    assert (trial.paths, trial.outputs_without_gradient) == (((0,), (1,)), (1,))
    trial = try_module(module, lambda m, x: m(x), problem)
    assert (trial.changed_buffers, trial.lost_buffers, trial.outputs_without_gradient) == ((), (), ())


def test_no_run_is_added_to_find_random_numbers():
    """The float64 runs are the trial, the truth, and three perturbed problems. The float32 runs are the three paths."""
    module, runs = linear(), []
    count = lambda m, x: runs.append(x.dtype) or m(x)
    assert crosscheck.check(dense, module, params_of(module), (X,), torch_fn=count)
    assert [runs.count(kind) for kind in (torch.float64, torch.float32)] == [1 + 1 + 3, 3]


def test_an_error_of_the_torch_module_keeps_its_type():
    def fails(module, x):
        raise RuntimeError("the index is out of luck")

    with pytest.raises(RuntimeError, match="out of luck") as caught:
        crosscheck.check(dense, linear(), params_of(linear()), (X,), torch_fn=fails)
    assert caught.value.__notes__ == ["raised inside the torch module, in the float64 check"]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, partial(torch.jit.trace, example_inputs=torch.ones(4, 3))])
def test_torchscript_as_the_reference(make):
    module = linear()
    verdict = crosscheck.check(dense, make(module), params_of(linear(1)), (X,))
    assert verdict, str(verdict)
    assert not crosscheck.check(lambda p, x: dense(p, x) + 1e-6, make(module), params_of(module), (X,))
    frozen = torch.jit.freeze(make(module.eval()))
    with pytest.raises(ValueError, match=r"A frozen TorchScript module has no parameters"):
        crosscheck.check(dense, frozen, params_of(module), (X,))


def test_second_order_asks_for_a_hessian_vector_product_of_each_name():
    module = linear()
    asked = {
        order: {
            f.quantity for f in crosscheck.check(dense, module, params_of(module), (X,), second_order=order).findings
        }
        for order in (False, True)
    }
    assert asked[True] - asked[False] == {Gradient(name, 2) for name in ("weight", "bias", "x")}


def test_random_numbers_for_each_kind_of_array():
    rng = np.random.default_rng(0)
    assert random_like(rng, np.ones((2, 3))).dtype == np.float64
    drawn = random_like(rng, np.ones((2, 3), complex))
    assert drawn.shape == (2, 3)
    assert np.all(drawn.imag != 0)
    np.testing.assert_array_equal(random_like(rng, np.arange(3)), 0)


def test_a_leaf_that_is_no_tensor_is_refused_with_its_place():
    with pytest.raises(TypeError, match="got a float at loss") as caught:
        crosscheck.check(dense, linear(), params_of(linear()), (X,), torch_fn=lambda m, x: {"y": m(x), "loss": 1.0})
    assert not hasattr(caught.value, "__notes__")  # the module raised nothing


def test_activation_checkpointing_recomputes_with_the_given_values():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
    call = lambda m, x: torch.utils.checkpoint.checkpoint(m, x, use_reentrant=False)
    port = lambda p, x: jnp.tanh(x @ p["0.weight"].T + p["0.bias"])
    params = {name: 2 * p for name, p in params_of(module).items()}
    verdict = crosscheck.check(port, module, params, (X,), torch_fn=call)
    assert verdict, str(verdict)


def test_a_wrong_port_fails_an_assertion():
    module = linear()
    with pytest.raises(AssertionError):
        assert crosscheck.check(lambda p, x: 2 * dense(p, x), module, params_of(module), (X,))
    assert crosscheck.check(dense, module, params_of(module), (X,)).outcome is Outcome.AGREE
