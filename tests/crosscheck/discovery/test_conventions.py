"""The 288 conventions. Each gives the results of a port with this convention, in NumPy and torch, and is invertible."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import numpy as np
import pytest
import torch

from crosscheck.discovery.conventions import CONVENTIONS, TORCH_ORDER, BiasRule, Convention

D, H = 3, 5
RNG = np.random.default_rng(0)
CELL = {
    "weight_ih": RNG.normal(size=(4 * H, D)),
    "weight_hh": RNG.normal(size=(4 * H, H)),
    "bias_ih": RNG.normal(size=4 * H),
    "bias_hh": RNG.normal(size=4 * H),
}
X, STATE, CELL_STATE = RNG.normal(size=(2, D)), RNG.normal(size=(2, H)), RNG.normal(size=(2, H))


def torch_step(cell):
    module = torch.nn.LSTMCell(D, H, bias="bias_ih" in cell, dtype=torch.float64)
    module.load_state_dict({name: torch.tensor(a) for name, a in cell.items()})
    with torch.no_grad():
        return tuple(a.numpy() for a in module(*(torch.tensor(X), tuple(map(torch.tensor, (STATE, CELL_STATE))))))


def port_step(cell, convention):
    """Run a port gate by gate. It uses each stored block as ``convention`` says, and permutes no array."""
    sums = {}
    for n, gate in enumerate(convention.gates):
        rows = slice(n * H, (n + 1) * H)
        recurrent = cell["weight_hh"][rows]
        z = X @ cell["weight_ih"][rows].T + STATE @ (recurrent if convention.transposed else recurrent.T)
        b_ih, b_hh = cell["bias_ih"][rows], cell["bias_hh"][rows]
        z = z + {"WITHOUT_HH": b_ih, "WITHOUT_IH": b_hh, "DOUBLED": 2 * (b_ih + b_hh)}.get(
            convention.biases.name, b_ih + b_hh
        )
        if gate == "f":
            z = z + {"FORGET_PLUS_ONE": 1, "FORGET_MINUS_ONE": -1}.get(convention.biases.name, 0)
        sums[gate] = z
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    c = sigmoid(sums["f"]) * CELL_STATE + sigmoid(sums["i"]) * np.tanh(sums["g"])
    return sigmoid(sums["o"]) * np.tanh(c), c


def assert_close(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_there_are_288_and_torchs_is_the_first():
    assert len(set(CONVENTIONS)) == len(set(map(str, CONVENTIONS))) == 288
    assert [c for c in CONVENTIONS if c.is_torch] == [CONVENTIONS[0]] == [Convention()]
    assert_close(Convention().read(CELL).values(), CELL.values())


def test_each_is_what_such_a_port_computes():
    steps = []
    for convention in CONVENTIONS:
        steps.append(torch_step(convention.read(CELL)))
        assert_close(steps[-1], port_step(CELL, convention))
    firsts = np.array([np.concatenate([a.ravel() for a in step]) for step in steps])
    apart = np.abs(firsts[:, None] - firsts).max(-1) + np.eye(288)
    assert apart.min() > 1e-3  # no two conventions give the same results


def test_each_has_a_way_back():
    right = torch_step(CELL)
    for convention in CONVENTIONS:
        assert_close(torch_step(convention.read(convention.write(CELL))), right)


@pytest.mark.parametrize("convention", CONVENTIONS[::17], ids=str)
def test_tensors_are_read_alike_and_differentiated(convention):
    tensors = {name: torch.tensor(a.astype("float32"), requires_grad=True) for name, a in CELL.items()}
    read = convention.read(tensors)
    expected = convention.read({name: a.astype("float32") for name, a in CELL.items()})
    for name, array in expected.items():
        assert array.dtype == np.float32
        assert read[name].dtype == torch.float32
        np.testing.assert_array_equal(read[name].detach().numpy(), array)
    weights = {name: torch.randn(a.shape) for name, a in read.items()}
    gradients = torch.autograd.grad(sum((read[n] * w).sum() for n, w in weights.items()), list(tensors.values()))
    zero = convention.read({name: torch.zeros_like(a) for name, a in tensors.items()})
    linear = sum(((read[n] - zero[n]) * w).sum() for n, w in weights.items())  # reading is affine
    by_gradient = sum((g * a).sum() for g, a in zip(gradients, tensors.values(), strict=True))
    torch.testing.assert_close(by_gradient, linear, rtol=1e-4, atol=1e-4)


def test_without_biases_only_what_is_added_is_there():
    bare = {name: CELL[name] for name in ("weight_ih", "weight_hh")}
    for convention in CONVENTIONS:
        read = convention.read(bare)
        added = convention.biases.forget
        assert ("bias_ih" in read) == ("bias_hh" in read) == bool(added)
        if added:
            blocks = (read["bias_ih"] + read["bias_hh"]).reshape(4, H)
            np.testing.assert_array_equal(blocks, added * np.eye(4)[TORCH_ORDER.index("f")][:, None] * np.ones(H))
    assert (bare["weight_ih"] == CELL["weight_ih"]).all()


def test_nothing_given_is_changed():
    before = {name: a.copy() for name, a in CELL.items()}
    for convention in CONVENTIONS:
        convention.read(CELL)
        convention.write(CELL)
    assert_close(CELL.values(), before.values())


def test_the_phrases():
    assert str(Convention()) == "gate order i f g o (torch's)"
    haiku = Convention("igfo", biases=BiasRule.FORGET_PLUS_ONE)
    assert str(haiku) == "gate order i g f o, with 1 added to the forget gate's bias at run time"
    both = Convention("iofg", True, BiasRule.WITHOUT_HH)
    assert str(both) == "gate order i o f g, with each gate's recurrent weights transposed and bias_hh ignored"


def test_bad_arguments():
    for call, message in (
        (lambda: Convention("ifgg"), "gates must be the letters"),
        (lambda: Convention().read({"weight_ih": CELL["weight_ih"]}), "must have weight_ih and weight_hh"),
        (lambda: Convention().read(CELL | {"bias_ih": np.ones(3)}), r"bias_ih must be \[4H\]; got shape \(3,\)"),
        (lambda: Convention().read(CELL | {"weight_hh": np.ones((6, 2))}), r"must be \[4H, in\]"),
        (lambda: Convention(transposed=True).read(CELL | {"weight_hh": np.ones((20, 2))}), "read transposed"),
        (
            lambda: Convention(biases=BiasRule.WITHOUT_IH).write({n: a for n, a in CELL.items() if n != "bias_hh"}),
            "bias_ih must be zero",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
