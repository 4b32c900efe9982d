# ruff: noqa: E501
"""crosscheck.check on any pair."""

from __future__ import annotations

from functools import partial

from crosscheck.core.problem import Gradient, is_gradient
from tests.support.requirements import need

need("torch")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import crosscheck
import jax_lstm
from crosscheck.core.finding import Outcome
from jax_lstm import LSTMState

RNG = np.random.default_rng(0)


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))


def jax_mlp(params, x):
    return jnp.tanh(x @ params["0.weight"].T + params["0.bias"]) @ params["2.weight"].T + params["2.bias"]


def params_of(module):
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def test_a_pair_that_is_no_lstm():
    module = mlp()
    verdict = crosscheck.check(jax_mlp, module, params_of(module), (RNG.normal(size=(4, 3)),), output_names=["y"])
    assert verdict.ok, str(verdict)
    assert {f.quantity for f in verdict.findings} == {
        "y", Gradient("0.weight"), Gradient("0.bias"), Gradient("2.weight"), Gradient("2.bias"), Gradient("x"),
    }  # fmt: skip
    assert str(verdict).startswith("agree: 6 quantities in float64 and float32")
    assert verdict.environment["torch"] == torch.__version__


def test_an_lstm_with_states_and_a_torch_adapter():
    module = torch.nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True)
    x, h, c = RNG.normal(size=(4, 6, 3)), RNG.normal(size=(4, 4, 5)), RNG.normal(size=(4, 4, 5))

    def fn(params, x, states):
        y, state = jax_lstm.lstm(params, x, LSTMState(*states))
        return y, state.c

    verdict = crosscheck.assert_agree(
        fn, module, params_of(module), (x, (h, c)), torch_fn=lambda m, x, s: (lambda y, hc: (y, hc[1]))(*m(x, s))
    )
    assert {"output 0", "output 1", crosscheck.Gradient("x"), Gradient("states[0]"), Gradient("states[1]")} <= {
        f.quantity for f in verdict.findings
    }


def test_a_wrong_port_raises_with_the_reason():
    module = mlp()
    wrong = lambda params, x: jax_mlp(params | {"0.bias": 0 * params["0.bias"]}, x)
    with pytest.raises(
        AssertionError, match=r"disagree: .*\n.*\n  y \[float64\]; error .*, limit .*; largest at index"
    ):
        crosscheck.assert_agree(wrong, module, params_of(module), (RNG.normal(size=(4, 3)),), output_names=["y"])


def test_a_packed_lstm_that_disagrees_says_how_to_get_a_diagnosis():
    """A diagnosis runs the port on other lengths and states, so the LSTM must take these and nothing else."""
    module = torch.nn.LSTM(3, 4, bidirectional=True, batch_first=True)
    params = {name: p.detach().numpy() for name, p in module.named_parameters()}
    x = np.random.default_rng(0).normal(size=(2, 6, 3))

    def packed(module, x, lengths):
        return module(torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))

    def port(params, x, lengths, ignored):
        y, state = jax_lstm.lstm(params, x, lengths=None if ignored else lengths)
        return y, (state.h, state.c)

    inputs = (x, np.array([6, 4]))
    right = crosscheck.check(partial(port, ignored=False), module, params, inputs, torch_fn=packed)
    assert right
    assert right.diagnosis == ()
    wrong = crosscheck.check(partial(port, ignored=True), module, params, inputs, torch_fn=packed)
    assert wrong.outcome == "disagree"
    assert [line.partition(":")[0] for line in wrong.diagnosis] == ["no diagnosis by name"]
    assert "lengths in the reverse direction" in wrong.cause


def test_integer_inputs_are_passed_as_they_are():
    module = torch.nn.Embedding(7, 3)
    tokens = np.array([[0, 6, 3]])
    verdict = crosscheck.check(lambda p, t: p["weight"][t], module, params_of(module), (tokens,))
    assert verdict.ok, str(verdict)
    assert {f.quantity for f in verdict.findings} == {"output 0", Gradient("weight")}


def test_inputs_without_names_of_their_own_are_numbered():
    module = mlp()
    for fn in (lambda *a: jax_mlp(*a), lambda p, *xs: jax_mlp(p, *xs)):
        verdict = crosscheck.check(fn, module, params_of(module), (RNG.normal(size=(4, 3)),))
        assert Gradient("input 0") in {f.quantity for f in verdict.findings}


def test_wrt_cotangents_and_seed():
    module = mlp()
    x = RNG.normal(size=(4, 3))
    verdict = crosscheck.check(jax_mlp, module, params_of(module), (x,), wrt=["2.bias"], cotangents=np.ones((4, 2)))
    (finding,) = [f for f in verdict.findings if is_gradient(f.quantity) and str(f.check) == "float64"]
    assert (finding.quantity, finding.norm) == (Gradient("2.bias"), pytest.approx(4 * np.sqrt(2)))
    first, second = (
        [f.norm for f in crosscheck.check(jax_mlp, module, params_of(module), (x,), seed=s).findings] for s in (1, 2)
    )
    assert first != second


def test_an_unused_parameter_counts_as_zero_and_is_reported():
    module = mlp()
    module.register_parameter("spare", torch.nn.Parameter(torch.ones(2)))
    verdict = crosscheck.check(jax_mlp, module, params_of(module), (RNG.normal(size=(4, 3)),))
    assert verdict, str(verdict)
    assert verdict.notes == ("torch gives no gradient for 'spare' (None); it counts as zero",)
    assert verdict.not_shown[0] == "no output changes with 'spare': a port that ignores it passes"
    leak = lambda params, x: jax_mlp(params, x) + params["spare"]
    assert crosscheck.check(leak, module, params_of(module), (RNG.normal(size=(4, 3)),)).outcome is Outcome.DISAGREE


def test_tied_parameters_are_named_once():
    module = mlp()
    module.add_module("3", torch.nn.Linear(2, 5))
    module.add_module("4", torch.nn.Linear(5, 2))
    module[4].weight = module[2].weight
    fn = lambda p, x: (jax_mlp(p, x) @ p["3.weight"].T + p["3.bias"]) @ p["2.weight"].T + p["4.bias"]
    assert "4.weight" not in params_of(module)
    verdict = crosscheck.check(fn, module, params_of(module), (RNG.normal(size=(4, 3)),))
    assert verdict.ok, str(verdict)


def test_buffers_and_eval_mode():
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
    mean, var = RNG.normal(size=3), RNG.uniform(1, 2, 3)
    fn = lambda p, x, mean, var: (x - mean) / jnp.sqrt(var + 1e-5) * p["0.weight"] + p["0.bias"]
    buffers = {"0.running_mean": mean, "0.running_var": var}
    inputs = (RNG.normal(size=(4, 3)), mean, var)
    options = {"torch_fn": lambda m, x, mean, var: m(x), "wrt": ["0.weight", "x"]}
    verdict = crosscheck.check(fn, module, params_of(module), inputs, buffers=buffers, **options)
    assert verdict.ok, str(verdict)
    assert crosscheck.check(fn, module, params_of(module), inputs, **options).outcome is Outcome.DISAGREE
    with pytest.raises(ValueError, match="the torch module draws random numbers"):
        crosscheck.check(fn, module, params_of(module), inputs, train=True, **options)


def test_the_users_module_is_not_changed():
    module = mlp().train()
    before = {n: p.clone() for n, p in module.state_dict().items()}
    other = {n: p + 1 for n, p in params_of(module).items()}
    assert crosscheck.check(jax_mlp, module, other, (RNG.normal(size=(4, 3)),)).ok
    assert module.training
    for name, p in module.state_dict().items():
        assert p.dtype == torch.float32
        assert torch.equal(p, before[name])
    assert all(p.grad is None for p in module.parameters())


def test_gradients_that_the_caller_turned_off_are_on_inside():
    module, x = mlp(), RNG.normal(size=(4, 3))
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            verdict = crosscheck.check(jax_mlp, module, params_of(module), (x,))
        assert verdict.ok, str(verdict)


def test_a_module_that_works_in_place():
    module = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 2))
    fn = lambda p, x: jax.nn.relu(x) @ p["1.weight"].T + p["1.bias"]
    verdict = crosscheck.check(fn, module, params_of(module), (RNG.normal(size=(4, 3)),))
    assert verdict.ok, str(verdict)


def test_a_torch_module_of_fixed_dtype_could_not_run():
    module = torch.nn.Linear(3, 2, bias=False)
    fixed = lambda m, x: m(x) + torch.zeros(4, 3) @ m.weight.T
    fn = lambda p, x: x @ p["weight"].T
    with pytest.raises(crosscheck.CouldNotRun, match=r"torch module could not run in float64: .*x.new_zeros"):
        crosscheck.check(fn, module, params_of(module), (RNG.normal(size=(4, 3)),), torch_fn=fixed)


def test_bad_arguments():
    module, x = mlp(), RNG.normal(size=(4, 3))
    good = params_of(module)
    check = crosscheck.check
    for call, error, message in (
        (lambda: check(jax_mlp, module, [1], (x,)), TypeError, "params must map names to arrays; got list"),
        (lambda: check(jax_mlp, module, {}, (x,)), ValueError, r"missing \['0.bias'"),
        (lambda: check(jax_mlp, module, good | {"a": x}, (x,)), ValueError, r"unknown \['a'\]"),
        (lambda: check(jax_mlp, module, good | {"0.bias": x}, (x,)), ValueError, r"params\['0.bias'\] must have shape \(5,\)"),
        (lambda: check(jax_mlp, module, good, (x,), output_names=["a", "b"]), ValueError, "output_names must name 1 outputs"),
        (lambda: check(lambda p, x: (jax_mlp(p, x),) * 2, module, good, (x,), output_names=["y", "y"], torch_fn=lambda m, x: (m(x), m(x))), ValueError, "output_names must differ"),
        (lambda: check(jax_mlp, module, good, (x,), buffers={"mean": x}), ValueError, r"buffers\['mean'\] must be one of"),
        (lambda: check(jax_mlp, module, good, (x,), wrt=["z"]), ValueError, "wrt must name .*; got 'z'"),
        (lambda: check(jax_mlp, module, good, (x,), cotangents=np.ones(3)), ValueError, r"must have shape \(4, 2\)"),
        (lambda: check(jax_mlp, module, good, (x,), cotangents=(x,)), ValueError, "cotangents must have the outputs' structure"),
        (lambda: check(lambda p, x: (jax_mlp(p, x),), module, good, (x,)), ValueError, "jax_fn must return the structure"),
        (lambda: check(jax_mlp, module, good, (np.array(["a"]),)), TypeError, "arrays must hold numbers or bools"),
        (lambda: check(jax_mlp, module, good, (x, jax.random.key(0))), TypeError, r"got a PRNG key. Make the key inside jax_fn, or pass jax.random.key_data"),
        (lambda: check(jax_mlp, module, good, (x,), wrt="x"), TypeError, r"wrt must be a sequence of names; got the string 'x'. Write \['x'\]"),
        (lambda: check(jax_mlp, module, good, (x,), wrt=3), TypeError, "wrt must be a sequence of names; got int"),
        (lambda: check(jax_mlp, module, good, (x,), wrt=["x", "x"]), ValueError, "wrt must name each param or input once; got 'x' 2 times"),
        (lambda: check(jax_mlp, module, good, (x,), output_names="y"), TypeError, "output_names must be a sequence of names; got the string 'y'"),
        (lambda: check(jax_mlp, torch.nn.Linear, good, (x,)), TypeError, r"got the class Linear. Write Linear\(...\)"),
        (lambda: check(jax_mlp, torch.tanh, good, (x,)), TypeError, "torch_module must be a torch.nn.Module; got builtin"),
        (lambda: check(module, jax_mlp, good, (x,)), TypeError, "jax_fn must be a function of params and inputs; got a torch module. The two are swapped"),
        (lambda: check(3, module, good, (x,)), TypeError, "jax_fn must be a function of params and inputs; got int"),
        (lambda: check(jax_mlp, module, good, (x,), torch_kwargs=[1]), TypeError, "torch_kwargs must map names to values; got list"),
        (lambda: check(jax_mlp, module, good, (x,), buffers=[1]), TypeError, "buffers must map names to values; got list"),
        (lambda: check(jax_mlp, module, good, (x,), seed=None), TypeError, "seed must be an integer; got None"),
        (lambda: check(jax_mlp, module, good, (x,), seed=-1), ValueError, "seed must not be negative; got -1"),
        (lambda: check(jax_mlp, module, good, (x,), dtypes=(None,)), ValueError, "dtypes must be a sequence of some of"),
        (lambda: check(jax_mlp, module, good, (x,), dtypes=torch.float32), ValueError, "dtypes must be a sequence of some of"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


def test_what_cannot_run_says_so():
    module, x = torch.nn.RNN(3, 3, bias=False), RNG.normal(size=(6, 3))
    other = lambda p, x: jax.lax.scan(lambda h, x_t: (h[:2], h), x[0], x)
    with pytest.raises(TypeError, match="carry") as raised:
        crosscheck.check(other, module, params_of(module), (x,))
    assert "raised inside the JAX function, in the float64 check" in raised.value.__notes__
    wrong_shape = lambda p, x: (x[:2], x[:1])
    with pytest.raises(crosscheck.CouldNotRun, match=r"'output 0' has shape \(2, 3\) from the JAX function"):
        crosscheck.check(wrong_shape, module, params_of(module), (x,))


def test_an_error_of_the_users_own_function_keeps_its_type_and_its_line():
    module, x = torch.nn.RNN(3, 3, bias=False), RNG.normal(size=(6, 3))

    def broken(params, x):
        return params["weight"] @ x

    with pytest.raises(KeyError, match="weight") as raised:
        crosscheck.check(broken, module, params_of(module), (x,))
    assert any(entry.name == "broken" for entry in raised.traceback)


def test_an_error_of_the_users_own_function_may_speak_of_dtypes():
    module, x = mlp(), RNG.normal(size=(4, 3))
    for text in ("lax.add requires arguments to have the same dtypes", "the carry is float32 and not float64"):

        def broken(params, x, text=text):
            raise ValueError(text)

        with pytest.raises(ValueError, match=text):
            crosscheck.check(broken, module, params_of(module), (x,))

    def mixed(params, x):
        return jax.lax.add(jax_mlp(params, x), jnp.ones((4, 2), jnp.float32))

    with pytest.raises(crosscheck.CouldNotRun, match="it mixes dtypes"):
        crosscheck.check(mixed, module, params_of(module), (x,))


@pytest.mark.parametrize(
    "dtypes", [(torch.float32,), (jnp.float32,), (np.float32,), [np.dtype("float32")], ("float32" for _ in range(1))]
)
def test_precision_checks_by_the_names_of_dtypes(dtypes):
    module = mlp()
    verdict = crosscheck.check(jax_mlp, module, params_of(module), (RNG.normal(size=(4, 3)),), dtypes=dtypes)
    assert verdict, str(verdict)
    assert {finding.check.dtype for finding in verdict.findings} == {"float32"}


def test_big_endian_integers():
    module = torch.nn.Embedding(7, 3)
    tokens = np.array([[0, 6, 3]], ">i4")
    verdict = crosscheck.check(lambda p, t: p["weight"][t], module, params_of(module), (tokens,))
    assert verdict, str(verdict)


def test_a_loop_whose_carry_is_float32_runs_in_float64_with_a_note():
    module, x = torch.nn.RNN(3, 3, bias=False), RNG.normal(size=(6, 3))

    def fixed(params, x):
        w, u = params["weight_ih_l0"], params["weight_hh_l0"]
        step = lambda h, x_t: (jnp.tanh(w @ x_t + u @ h),) * 2
        last, y = jax.lax.scan(step, jnp.zeros(3, jnp.float32), x)
        return y, last[None]

    verdict = crosscheck.check(fixed, module, params_of(module), (x,))
    assert verdict, str(verdict)
    assert "the carry of the port's loop is float32 in any run: its float32 program ran in float64" in verdict.notes


def test_text_of_other_outcomes():
    module = torch.nn.Linear(2, 1, bias=False)
    fn = lambda p, x: x @ p["weight"].T
    zeros = crosscheck.check(fn, module, params_of(module), (np.zeros((1, 2)),))
    assert str(zeros).startswith("vacuous: ")
    assert "This is no success" in str(zeros)
    cancelling = {"weight": np.array([[1.0, 1.0]])}
    nothing_left = crosscheck.check(fn, module, cancelling, (np.array([[1.0, -1.0 + 1e-9], [1.0, -1.0 + 2e-9]]),))
    assert nothing_left, str(nothing_left)
    assert "not decided by the float32 check: output 0" in str(nothing_left)
    assert "settled by the float64 check" in str(nothing_left)


def test_chaos_is_inconclusive():
    class Logistic(torch.nn.Module):
        def forward(self, x):
            for _ in range(80):
                x = 3.99 * x * (1 - x)
            return x

    def port(params, x):
        for _ in range(80):
            x = 3.99 * (x - x * x)
        return x

    chaos = crosscheck.check(port, Logistic(), {}, (RNG.uniform(0.2, 0.8, (3, 4)),))
    assert str(chaos).startswith("inconclusive: ")
    assert "κu = " in str(chaos)
