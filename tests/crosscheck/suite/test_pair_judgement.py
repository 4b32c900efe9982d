"""Cases of models other than LSTMs that were once judged wrong: right pairs agree, and pairs with mistakes do not."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import crosscheck
from crosscheck.core.finding import Grounds, Outcome, Reason
from crosscheck.core.problem import Gradient
from tests.support.pairs import judged, linear, module, numbers, parameter

pytestmark = pytest.mark.isa

functional = torch.nn.functional


def rms_norm():
    def forward(m, x):
        wide = x.float()
        return m.w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)

    return module(forward, w=lambda: torch.nn.Parameter(torch.randn(6)))


def plain_rms_norm(p, x):
    return p["w"] * x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def mirrored_rms_norm(p, x):
    wide = x.astype(jnp.float32)
    return p["w"] * (wide * jax.lax.rsqrt((wide**2).mean(-1, keepdims=True) + 1e-6)).astype(x.dtype)


@pytest.mark.parametrize("port", [plain_rms_norm, mirrored_rms_norm])
def test_a_module_that_computes_in_float32_agrees_with_a_plain_and_with_a_mirrored_port(port):
    verdict = judged(port, rms_norm(), numbers(5, 6))
    assert verdict, str(verdict)
    assert any("the torch module computes in float32 at test_pair_judgement.py:" in note for note in verdict.notes)


def test_a_port_that_alone_computes_in_float32_is_named_with_the_line():
    plain = module(
        lambda m, x: m.w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
        w=lambda: torch.nn.Parameter(torch.randn(6)),
    )
    verdict = judged(mirrored_rms_norm, plain, numbers(5, 6))
    assert [f.reason for f in verdict.findings if f.final is Outcome.DISAGREE] == [Reason.PRECISION]
    assert "float32 at test_pair_judgement.py:" in str(verdict)
    assert "the same function" in str(verdict)


def test_a_function_of_jax_that_computes_in_float32_agrees_with_a_note():
    attention = module(lambda m, q, k: functional.scaled_dot_product_attention(q, k, k) * m.w, w=parameter(6))
    swap = lambda a: a.swapaxes(1, 2)
    port = lambda p, q, k: swap(jax.nn.dot_product_attention(*map(swap, (q, k, k)))) * p["w"]
    verdict = judged(port, attention, numbers(2, 3, 5, 6), numbers(2, 3, 7, 6, seed=1))
    assert verdict, str(verdict)
    assert any(note.startswith("the port computes in float32") for note in verdict.notes)


def test_an_operation_that_torch_computes_inexactly_agrees_and_is_named():
    verdict = judged(
        lambda p, x: jax.scipy.special.digamma(x),
        module(lambda m, x: torch.digamma(x)),
        np.random.default_rng(0).uniform(0.05, 6, (8, 50)),
    )
    assert verdict, str(verdict)
    assert any("polygamma" in note for note in verdict.notes)


def test_a_function_that_jax_computes_inexactly_agrees():
    probit = module(lambda m, x: torch.special.log_ndtr(m.l(x)), l=lambda: torch.nn.Linear(6, 4))
    verdict = judged(lambda p, x: jax.scipy.special.log_ndtr(linear(p, "l", x)), probit, 5 * numbers(8, 6))
    assert verdict, str(verdict)


@pytest.mark.parametrize("seed", range(8))
def test_a_difference_of_close_distributions_agrees(seed):
    def forward(m, x, t):
        logs = m.l(x).log_softmax(-1), t.log_softmax(-1)
        return functional.kl_div(*logs, log_target=True, reduction="batchmean")

    def port(p, x, t):
        a, b = jax.nn.log_softmax(linear(p, "l", x)), jax.nn.log_softmax(t)
        return (jnp.exp(b) * (b - a)).sum() / x.shape[0]

    student = module(forward, l=lambda: torch.nn.Linear(6, 10))
    x = numbers(4, 6, seed=seed)
    with torch.no_grad():
        close = student.l(torch.tensor(x).float()).numpy() + 1e-3 * numbers(4, 10, seed=seed + 100)
    verdict = judged(port, student, x, close, seed=seed)
    assert verdict, str(verdict)
    wrong = judged(lambda p, x, t: port(p, x, t) * (1 + 1e-6), student, x, close, seed=seed)
    assert wrong.outcome is Outcome.DISAGREE


def additive_attention():
    def forward(m, q, k):
        scores = m.v(torch.tanh(m.a(q)[:, None] + m.b(k)))[..., 0]
        return (torch.softmax(scores, -1)[..., None] * k).sum(1)

    parts = {"a": lambda: torch.nn.Linear(6, 8), "b": lambda: torch.nn.Linear(6, 8), "v": lambda: torch.nn.Linear(8, 1)}
    return module(forward, **parts)


def attend(p, q, k, bias=lambda b: b):
    scores = jnp.tanh(linear(p, "a", q)[:, None] + linear(p, "b", k)) @ p["v.weight"].T + bias(p["v.bias"])
    return (jax.nn.softmax(scores[..., 0], -1)[..., None] * k).sum(1)


def test_a_gradient_that_is_zero_by_invariance_is_zero_within_rounding():
    """In some draws both sides give the same noise, or exactly zero. This depends on the processor."""
    named = []
    for seed in range(8):
        inputs = numbers(3, 6, seed=seed), numbers(3, 7, 6, seed=seed + 50)
        verdict = judged(attend, additive_attention(), *inputs, seed=seed)
        assert verdict, str(verdict)
        named += [f.grounds for f in verdict.findings if f.quantity == Gradient("v.bias")]
    assert Grounds.ZERO in named


def test_a_port_that_makes_something_of_a_gradient_that_is_zero_by_invariance_disagrees():
    inputs = numbers(3, 6), numbers(3, 7, 6, seed=50)
    leak = lambda p, q, k: attend(p, q, k) + 1e-9 * p["v.bias"]
    verdict = judged(leak, additive_attention(), *inputs)
    assert verdict.outcome is Outcome.DISAGREE
    assert Gradient("v.bias") in {f.quantity for f in verdict.findings if f.final is Outcome.DISAGREE}


def test_a_bias_that_cancels_between_two_means_agrees():
    critic = module(
        lambda m, a, b: m.c(torch.tanh(m.d(a))).mean() - m.c(torch.tanh(m.d(b))).mean(),
        d=lambda: torch.nn.Linear(6, 7),
        c=lambda: torch.nn.Linear(7, 1),
    )
    score = lambda p, x: linear(p, "c", jnp.tanh(linear(p, "d", x))).mean()
    verdict = judged(lambda p, a, b: score(p, a) - score(p, b), critic, numbers(5, 6), numbers(5, 6, seed=1))
    assert verdict, str(verdict)


def test_ties_of_a_max_pool_on_a_quantised_image_agree_and_another_winner_does_not():
    image = np.round(numbers(2, 3, 8, 8) * 2) / 2
    pool = lambda x: nn.max_pool(x.transpose(0, 2, 3, 1), (2, 2), (2, 2)).transpose(0, 3, 1, 2)
    verdict = judged(lambda p, x: pool(x), torch.nn.MaxPool2d(2), image)
    assert verdict, str(verdict)
    shared = lambda p, x: x.reshape(2, 3, 4, 2, 4, 2).max((3, 5))  # the winners of a tie share the gradient
    assert judged(shared, torch.nn.MaxPool2d(2), image).outcome is Outcome.DISAGREE


def test_a_clamp_exactly_at_its_bounds_agrees_if_both_choose_the_same_derivative():
    clipped = np.clip(1.5 * numbers(5, 6), -1, 1)
    square = module(lambda m, x: x.clamp(-1, 1) ** 2)
    inside = lambda p, x: jnp.where(jnp.abs(x) <= 1, x, jax.lax.stop_gradient(jnp.clip(x, -1, 1))) ** 2
    verdict = judged(inside, square, clipped)
    assert verdict, str(verdict)
    half = judged(lambda p, x: jnp.clip(x, -1, 1) ** 2, square, clipped)  # its derivative at a bound is one half
    assert half.outcome is Outcome.INCONCLUSIVE  # a rounding of the input also changes torch's


def layer_norm(p, x):
    return nn.LayerNorm(epsilon=1e-5).apply({"params": {"scale": p["weight"], "bias": p["bias"]}}, x)


def test_a_port_that_cancels_is_the_same_function_and_is_named_less_precise():
    verdict = judged(layer_norm, torch.nn.LayerNorm(6), numbers(5, 6) + 300)
    wrong = [f for f in verdict.findings if f.final is Outcome.DISAGREE]
    assert {(f.check.dtype, f.reason) for f in wrong} == {("float32", Reason.PRECISION)}
    assert "the same function, less precise: the rounding of " in verdict.cause
    assert " at normalization.py:" in verdict.cause
    assert "computes it less precisely" in str(verdict)
    assert judged(layer_norm, torch.nn.LayerNorm(6), numbers(5, 6))


def test_a_port_may_close_over_a_float64_array_of_numpy():
    table = np.linspace(0, 1, 4)
    shifted = module(lambda m, x: m.l(x) + torch.linspace(0, 1, 4, dtype=x.dtype), l=lambda: torch.nn.Linear(6, 4))
    verdict = judged(lambda p, x: linear(p, "l", x) + table, shifted, numbers(5, 6))
    assert verdict, str(verdict)


def embedding(index):
    return module(lambda m, t: m.w[index(t)], w=parameter(9, 6))


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_integer_inputs_are_arrays_of_jax(jit):
    first = embedding(lambda t: torch.cat([torch.ones_like(t[:, :1]), t[:, 1:]], 1))
    verdict = judged(
        jit(lambda p, t: p["w"][t.at[:, 0].set(1)]), first, np.random.default_rng(0).integers(0, 9, (3, 4))
    )
    assert verdict, str(verdict)


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_an_index_that_overflows_32_bits_disagrees(jit):
    hashed = embedding(lambda t: (t * 48271) % 9)
    tokens = np.random.default_rng(0).integers(0, 10**6, (3, 4))
    assert judged(jit(lambda p, t: p["w"][(t * 48271) % 9]), hashed, tokens).outcome is Outcome.DISAGREE


def test_a_port_that_is_more_exact_than_torch_agrees():
    small = 1e-6 * numbers(5, 6)
    verdict = judged(lambda p, x: jnp.expm1(x), module(lambda m, x: torch.exp(x) - 1), small)
    assert verdict, str(verdict)


def test_a_statistic_without_a_gradient_in_torch_agrees_with_a_note():
    def port(p, x):
        normal = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
        return normal * p["weight"] + p["bias"], 0.1 * x.mean(0)

    statistic = lambda m, x: (m(x), m.running_mean)
    verdict = judged(port, torch.nn.BatchNorm1d(6), numbers(5, 6), train=True, torch_fn=statistic)
    assert verdict, str(verdict)
    assert any("torch gives no gradient through 'output 1'" in note for note in verdict.notes)


def test_a_wrong_momentum_disagrees_once_the_statistic_is_returned():
    def port(p, x):
        normal = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
        return normal * p["weight"] + p["bias"], 0.9 * x.mean(0)

    statistic = lambda m, x: (m(x), m.running_mean)
    verdict = judged(port, torch.nn.BatchNorm1d(6), numbers(5, 6), train=True, torch_fn=statistic)
    assert verdict.outcome is Outcome.DISAGREE
    unseen = judged(lambda p, x: port(p, x)[0], torch.nn.BatchNorm1d(6), numbers(5, 6), train=True)
    assert any("changes the buffers 'running_mean'" in line for line in unseen.not_shown)


def test_default_statistics_are_answered_by_a_line_and_others_show_the_mistake():
    ignores = lambda p, x: x / jnp.sqrt(1 + 1e-5) * p["weight"] + p["bias"]
    verdict = judged(ignores, torch.nn.BatchNorm1d(6), numbers(5, 6))
    assert any("'running_mean', 'running_var' have their default values" in line for line in verdict.not_shown)
    buffers = {"running_mean": numbers(6), "running_var": 1 + numbers(6) ** 2}
    shown = judged(ignores, torch.nn.BatchNorm1d(6), numbers(5, 6), buffers=buffers)
    assert shown.outcome is Outcome.DISAGREE


def test_an_integer_that_comes_back_as_a_float_disagrees():
    verdict = judged(
        lambda p, x: jnp.argmax(x, -1).astype(x.dtype), module(lambda m, x: x.argmax(-1)), numbers(5, 6), wrt=[]
    )
    assert verdict.first.reason is Reason.DTYPE
    right = judged(lambda p, x: jnp.argmax(x, -1), module(lambda m, x: x.argmax(-1)), numbers(5, 6), wrt=[])
    assert right, str(right)


def test_a_long_axis_does_not_widen_the_limits_of_a_loss():
    labels = np.array([5, 9])
    loss = module(lambda m, x, y: functional.cross_entropy(x, y))

    def port(p, x, y, error=0.0):
        picked = jnp.take_along_axis(x, y[:, None], 1)[:, 0]
        return -(picked - jax.nn.logsumexp(x, axis=-1) * (1 + error * (x.dtype == jnp.float32))).mean()

    logits = numbers(2, 131072)
    assert judged(lambda p, x, y: port(p, x, y, 3e-5), loss, logits, labels).outcome is Outcome.DISAGREE
    verdict = judged(lambda p, x, y: port(p, x, y), loss, logits, labels)
    assert verdict, str(verdict)


def test_dropout_that_is_on_in_eval_mode_is_an_error():
    dropped = module(lambda m, x: functional.dropout(m.l(x), 0.2), l=lambda: torch.nn.Linear(6, 4))
    with pytest.raises(ValueError, match="draws random numbers"):
        judged(lambda p, x: linear(p, "l", x), dropped, numbers(5, 6))


def test_the_loop_of_flax_with_its_float32_carry_agrees_with_a_note():
    from jax_lstm import convert

    lstm = torch.nn.LSTM(4, 5, batch_first=True)
    port = lambda p, x: nn.RNN(nn.OptimizedLSTMCell(5)).apply({"params": convert.to_flax(p)}, x)
    params = {name: p.detach().numpy() for name, p in lstm.named_parameters()}
    verdict = crosscheck.check(port, lstm, params, (numbers(3, 6, 4),), torch_fn=lambda m, x: m(x)[0])
    assert verdict, str(verdict)
    assert any("carry" in note for note in verdict.notes)


def test_statistics_that_a_port_closes_over_in_float32_agree_with_a_note():
    norm = torch.nn.BatchNorm1d(6)
    mean, variance = numbers(6).astype(np.float32), 1 + numbers(6).astype(np.float32) ** 2
    port = lambda p, x: (x - mean) / np.sqrt(variance + np.float32(1e-5)) * p["weight"] + p["bias"]
    jitted = lambda p, x: (x - mean) / jnp.sqrt(jnp.asarray(variance) + 1e-5) * p["weight"] + p["bias"]
    buffers = {"running_mean": mean, "running_var": variance}
    verdict = judged(jitted, norm, numbers(5, 6), buffers=buffers)
    assert verdict, str(verdict)
    assert any("from an array that the port closes over" in note for note in verdict.notes)
    rounded = judged(port, norm, numbers(5, 6), buffers=buffers)  # NumPy rounded the standard deviation before
    assert rounded, str(rounded)
    assert any("rounded to float32" in line for line in rounded.not_shown)
