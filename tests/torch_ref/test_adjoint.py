"""torch_ref.gradient_flow: its adjoint compared with autograd, its singular values, and the errors of wrong input."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import numpy as np
import pytest
import torch

import torch_ref

T, D, H = 7, 3, 5


def module(kind):
    torch.manual_seed(0)
    if kind == "lstm":
        return torch_ref.LSTM(D, H, dtype=torch.float64)
    return torch_ref.RNN(D, H, nonlinearity=kind, dtype=torch.float64)


def problem(kind):
    rng = np.random.default_rng(3)
    draw = lambda *shape: torch.tensor(rng.normal(size=shape))
    hx = (draw(1, H), draw(1, H)) if kind == "lstm" else draw(1, H)
    return draw(T, D), hx, {"dy": draw(T, H), "dh_n": draw(H)} | ({"dc_n": draw(H)} if kind == "lstm" else {})


@pytest.mark.parametrize("kind", ["tanh", "relu", "lstm"])
def test_the_adjoint_agrees_with_autograd(kind):
    """The module runs step by step, so every h and c is a node of the graph."""
    net, (x, hx, cotangents) = module(kind), problem(kind)
    state = tuple(a.clone().requires_grad_() for a in (hx if kind == "lstm" else (hx,)))
    states = [state]
    loss = torch.zeros((), dtype=torch.float64)
    for t in range(T):
        _, last = net(x[t : t + 1], states[-1] if kind == "lstm" else states[-1][0])
        states.append(last if kind == "lstm" else (last,))
        for a in states[-1]:
            a.retain_grad()
        loss = loss + (cotangents["dy"][t] * states[-1][0][0]).sum()
    loss = loss + (cotangents["dh_n"] * states[-1][0][0]).sum()
    if kind == "lstm":
        loss = loss + (cotangents["dc_n"] * states[-1][1][0]).sum()
    loss.backward()
    got = torch_ref.gradient_flow(net, x, hx, **cotangents)
    norms = [[torch.linalg.vector_norm(a.grad) for a in state] for state in states]
    torch.testing.assert_close(torch.exp2(got.dh), torch.stack([n[0] for n in norms]), rtol=1e-12, atol=0)
    if kind == "lstm":
        # A step of the module returns h and c separately, so c.grad lacks the gradient through h of the same step.
        slopes = [0.0, *((1 - torch.tanh(s[1]) ** 2) * s[0] / torch.tanh(s[1]) for s in states[1:])]
        total = [s[1].grad + k * s[0].grad for s, k in zip(states, slopes, strict=True)]
        expected = torch.stack([torch.linalg.vector_norm(a) for a in total])
        torch.testing.assert_close(torch.exp2(got.dc), expected.detach(), rtol=1e-12, atol=0)
        along_c = gradient_along_c(net, x, states, slopes, cotangents)
        through_h = [a - b for a, b in zip(total, along_c, strict=True)]
        for part, vectors in (("along_c", along_c), ("through_h", through_h)):
            expected = torch.stack([torch.linalg.vector_norm(a) for a in vectors]).detach()
            torch.testing.assert_close(torch.exp2(getattr(got, part)), expected, rtol=1e-10, atol=1e-14)


def gradient_along_c(net, x, states, slopes, cotangents):
    """Return the part of dL/dc_t that passes only through forget gates, for t = 0 ... T."""
    gradients = [cotangents["dc_n"] + slopes[-1] * (cotangents["dh_n"] + cotangents["dy"][-1])]
    for t in range(T, 0, -1):
        z = x[t - 1] @ net.weight_ih_l0.T + net.bias_ih_l0 + states[t - 1][0][0] @ net.weight_hh_l0.T + net.bias_hh_l0
        direct = slopes[t - 1] * cotangents["dy"][t - 2] if t > 1 else 0.0
        gradients.insert(0, torch.sigmoid(z[H : 2 * H]) * gradients[0] + direct)
    return gradients


@pytest.mark.parametrize("kind", ["tanh", "lstm"])
def test_singular_values_agree_with_dense_jacobians(kind):
    """The Jacobians come from torch.autograd.functional.jacobian of the module, step by step."""
    net, (x, hx, _) = module(kind), problem(kind)
    widths = (H, H) if kind == "lstm" else (H,)
    state, dense = torch.cat([a[0] for a in (hx if kind == "lstm" else (hx,))]), []

    def step(s, x_t):
        parts = tuple(a[None] for a in s.split(widths))
        last = net(x_t[None], parts if kind == "lstm" else parts[0])[1]
        return torch.cat([a[0] for a in (last if kind == "lstm" else (last,))])

    for x_t in x:
        dense.append(torch.autograd.functional.jacobian(lambda s, x_t=x_t: step(s, x_t), state).numpy())
        state = step(state, x_t).detach()
    got = torch_ref.gradient_flow(net, x, hx, dh_n=torch.ones(H).double())
    values = np.linalg.svd(np.array(dense), compute_uv=False)
    np.testing.assert_allclose(np.exp2(got.step_max.numpy()), values[:, 0], rtol=1e-12)
    np.testing.assert_allclose(np.exp2(got.step_min.numpy()), values[:, -1], rtol=1e-9)
    products = [np.eye(len(dense[0]))]
    for jacobian in dense[::-1]:
        products.insert(0, products[0] @ jacobian)
    np.testing.assert_allclose(
        np.exp2(got.product_max.numpy()), np.linalg.norm(products[:-1], 2, axis=(1, 2)), rtol=1e-12
    )
    late = np.linalg.norm(
        np.linalg.inv(products[-4:-1]), 2, axis=(1, 2)
    )  # longer products have lost their smallest singular value
    np.testing.assert_allclose(np.exp2(-got.product_min[-3:].numpy()), late, rtol=1e-6)


def test_the_second_stage_is_the_output_of_the_cell():
    from torch_ref.cell import lstm_step
    from torch_ref.jacobians import _output

    net, (x, (h, c), _) = module("lstm"), problem("lstm")
    w = net._weights(0, "")
    h_new, c_new = lstm_step(w, x[:1], (h, c))
    torch.testing.assert_close(_output(w, h, c_new, x[:1]), h_new, rtol=0, atol=0)


def test_every_selects_every_nth_step():
    net, (x, hx, cotangents) = module("lstm"), problem("lstm")
    whole = torch_ref.gradient_flow(net, x, hx, **cotangents)
    selected = torch_ref.gradient_flow(net, x, hx, **cotangents, every=3)
    for name in ("step_max", "step_min", "product_max", "product_min"):
        assert len(getattr(whole, name)) == T
        torch.testing.assert_close(getattr(selected, name), getattr(whole, name)[::3], rtol=0, atol=0)
    torch.testing.assert_close(selected.dc, whole.dc, rtol=0, atol=0)


def test_a_gradient_smaller_than_any_float64_has_a_finite_logarithm():
    net = module("tanh")
    got = torch_ref.gradient_flow(
        net, torch.zeros(3_000, D, dtype=torch.float64), dh_n=torch.ones(H).double(), every=999
    )
    assert -20_000 < got.dh[0] < -1_100
    assert got.dh.isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"module": torch_ref.LSTM(D, H, 2).double()}, "num_layers = 1; got 2"),
        ({"module": torch_ref.RNN(D, H, bidirectional=True).double()}, "bidirectional = False; got True"),
        ({"module": torch_ref.LSTM(D, H, proj_size=2).double()}, "proj_size = 0; got 2"),
        ({"x": torch.zeros(2, T, D).double()}, r"x must be \[T, D\] with D = 3"),
        ({"x": torch.zeros(0, D).double()}, "T over 0"),
        ({"every": 0}, "every must be at least 1; got 0"),
        ({"dy": torch.zeros(T, 1).double()}, r"dy must have shape \(7, 5\); got \(7, 1\)"),
        (
            {"hx": torch.zeros(1, H).double()},
            r"hx must hold .* \[\(1, 5\), \(1, 5\)\]; got \[\(1, 5\)\]",
        ),
    ],
)
def test_an_error_names_what_is_not_supported(change, words):
    x, hx, cotangents = problem("lstm")
    arguments = {"module": module("lstm"), "x": x, "hx": hx, **cotangents} | change
    with pytest.raises(ValueError, match=words):
        torch_ref.gradient_flow(**arguments)
