"""Discovery on cells with planted conventions, on functions that are no LSTM cell, and on bad arguments."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import time
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch

import crosscheck
from crosscheck.discovery.conventions import BiasRule
from crosscheck.discovery.weight_map import RunnerUp
from tests.support.drawn_cells import Library, sigmoid

FORGET = {0: BiasRule.AS_STORED, 1: BiasRule.FORGET_PLUS_ONE, -1: BiasRule.FORGET_MINUS_ONE}


def effective(library):
    """Return the planted weights, and the sum of all biases, in torch's layout."""
    cell = library.cell
    bias = cell.get("bias_ih", 0) + cell.get("bias_hh", 0) + np.zeros(4 * library.hidden)
    bias = bias + library.forget * np.repeat([0, 1, 0, 0], library.hidden)
    return cell["weight_ih"], cell["weight_hh"], bias


def total_bias(cell):
    return cell["bias_ih"] + cell["bias_hh"] if "bias_ih" in cell else np.zeros(len(cell["weight_ih"]))


@pytest.mark.parametrize("seed", range(40))
def test_a_planted_convention_is_found(seed):
    library = Library(seed, equal_sizes=seed % 2 == 1)
    params = library.stored()
    like = {name: np.zeros(a.shape) for name, a in params.items()}
    found = crosscheck.discover(library, like, seed=seed)
    assert found.decided, (library.description, str(found))
    assert found.error < 1e-13
    assert found.runner_up.error > 1e-3
    assert (found.candidate.takes, found.candidate.returns) == (library.takes, library.returns)
    assert found.convention.biases is FORGET[library.forget]
    if "per gate" not in library.weights or library.biases not in ("none", "per gate"):
        assert found.convention.gates == library.order
    assert not found.convention.transposed
    cell = found.to_torch(params)
    for got, planted in zip((cell["weight_ih"], cell["weight_hh"], total_bias(cell)), effective(library), strict=True):
        np.testing.assert_allclose(got, planted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(40, 56))
def test_the_way_back_computes_torchs_cell(seed):
    library = Library(seed, forget=0 if seed % 2 else None)
    library_without = library.biases == "none"
    found = crosscheck.discover(library, library.stored())
    rng = np.random.default_rng(seed)
    wide = 4 * library.hidden
    cell = {"weight_ih": rng.normal(size=(wide, library.size)), "weight_hh": rng.normal(size=(wide, library.hidden))}
    cell |= {name: rng.normal(size=wide) for name in ("bias_ih", "bias_hh")}
    if library_without:
        with pytest.raises(ValueError, match="it stores none"):
            found.from_torch(cell)
        cell["bias_ih"], cell["bias_hh"] = library.forget * np.repeat([0.0, 1, 0, 0], library.hidden), np.zeros(wide)
    x, h, c = (rng.normal(size=(3, n)) for n in (library.size, library.hidden, library.hidden))
    module = torch.nn.LSTMCell(library.size, library.hidden, dtype=torch.float64)
    module.load_state_dict({name: torch.tensor(a) for name, a in cell.items()})
    with torch.no_grad():
        expected = [a.numpy() for a in module(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))]
    got = library(found.from_torch(cell), x, (h, c) if library.takes == "hc" else (c, h))
    for a, b in zip(got if library.returns == "hc" else got[::-1], expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_each_gates_recurrent_block_transposed():
    library = Library(0)
    library.weights, library.biases, library.in_out, library.forget = "fused", "two", False, 0
    library.cell |= {name: np.random.default_rng(1).normal(size=4 * library.hidden) for name in ("bias_ih", "bias_hh")}

    def turned(params, x, state):
        blocks = np.split(params["recurrent"], 4)
        return library(params | {"recurrent": np.concatenate([block.T for block in blocks])}, x, state)

    found = crosscheck.discover(turned, library.stored())
    assert found.decided
    assert found.convention.transposed
    assert found.convention.gates == library.order
    assert "recurrent weights transposed" in str(found)


@pytest.mark.parametrize("rule", ["WITHOUT_HH", "WITHOUT_IH", "DOUBLED"])
def test_the_other_bias_rules(rule):
    factors = {"WITHOUT_HH": (1, 0), "WITHOUT_IH": (0, 1), "DOUBLED": (2, 2)}[rule]
    library = Library(3)
    library.weights, library.biases, library.forget, library.in_out = "fused", "two", 0, False

    def port(params, x, state):
        changed = {f"bias {n}": factor * params[f"bias {n}"] for n, factor in enumerate(factors)}
        return library(params | changed, x, state)

    library.cell |= {name: np.random.default_rng(1).normal(size=4 * library.hidden) for name in ("bias_ih", "bias_hh")}
    found = crosscheck.discover(port, library.stored())
    assert found.decided
    assert found.convention.biases.name == rule


def test_what_cannot_be_told_apart_is_no_tie():
    """If H = 1, a block equals its transpose; with two biases, each may be the input's; if D = 1, an axis is 1."""
    for size, hidden in ((1, 1), (3, 1), (1, 3), (4, 1)):
        rng = np.random.default_rng(size)
        params = {"w": rng.normal(size=(4 * hidden, size)), "u": rng.normal(size=(4 * hidden, hidden))}
        params |= {name: rng.normal(size=4 * hidden) for name in ("a", "b")}
        module = torch.nn.LSTMCell(size, hidden, dtype=torch.float64)

        def port(params, x, state, module=module):
            cell = {"weight_ih": params["w"], "weight_hh": params["u"], "bias_ih": params["a"], "bias_hh": params["b"]}
            module.load_state_dict({name: torch.tensor(a) for name, a in cell.items()})
            return module(torch.tensor(x), tuple(map(torch.tensor, state)))

        found = crosscheck.discover(port, params)
        assert found.decided, str(found)
        assert found.convention.is_torch
        assert found.state_order == "hc"


def torch_cell(size, hidden):
    module = torch.nn.LSTMCell(size, hidden, dtype=torch.float64)
    fn = lambda params, x, state: torch.func.functional_call(module, params, (x, state))
    return fn, dict(module.state_dict())


def test_torchs_own_cell_comes_back_by_name():
    """In alphabetical order bias_hh is the first entry. Parameters are torch tensors, before and after."""
    fn, params = torch_cell(3, 5)
    found = crosscheck.discover(fn, params)
    assert found.decided
    assert found.convention.is_torch
    for name, array in found.to_torch(params).items():
        np.testing.assert_array_equal(array, params[name].numpy())


def test_sizes_that_the_shapes_leave_open():
    """A joint array has no biases. Its shape (8, 16) means D = H = 4, or with swapped axes D = 14 and H = 2."""
    rng = np.random.default_rng(0)

    def port(params, x, state):
        i, f, g, o = np.split(np.concatenate((x, state[0]), axis=1) @ params["w"], 4, axis=1)
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    like = {"w": rng.normal(size=(8, 16))}
    for sizes in ({}, {"hidden_size": 4}, {"input_size": 4}):
        found = crosscheck.discover(port, like, **sizes)
        assert found.decided
        assert (found.layout.input_size, found.layout.hidden_size) == (4, 4)
    with pytest.raises(ValueError, match="with hidden_size=3"):
        crosscheck.discover(port, like, hidden_size=3)


def hard_sigmoid(z):
    return np.clip(0.2 * z + 0.5, 0, 1)


@pytest.mark.parametrize(
    "library",
    [Library(1, gate=hard_sigmoid), Library(1, forget=0.5), Library(1, gate=lambda z: sigmoid(z) * (1 + 5e-5))],
    ids=["hard sigmoid", "half added to the forget gate", "off by 5e-5"],
)
def test_what_is_no_such_cell_is_undecided(library):
    found = crosscheck.discover(library, library.stored())
    assert not found.decided
    assert found.error > 1e-5
    text = str(found)
    assert text.startswith("Not decided: none of ")
    assert f"{found.error:.1e}" in text
    for convert in (found.to_torch, found.from_torch):
        with pytest.raises(ValueError, match="is not decided and converts nothing"):
            convert(library.stored())


def test_a_rival_that_is_near_leaves_it_undecided():
    library = Library(2)
    found = crosscheck.discover(library, library.stored())
    assert found.decided
    rival = replace(found, runner_up=RunnerUp("another gate order", 999 * 1e-12), error=1e-12)
    assert not rival.decided
    assert str(rival).startswith("Not decided: two explanations of this cell are too similar.")
    assert replace(rival, error=0.99e-12).decided


def test_the_largest_search_is_quick():
    """D = H, all matrices have one shape, and each gate has two biases. This is the largest number of candidates."""
    size = 64
    like = {f"{kind}{g}": np.zeros((size, size)) for kind in "WU" for g in "ifgo"}
    like |= {f"{kind}{g}": np.zeros(size) for kind in "ab" for g in "ifgo"}

    def port(p, x, state):
        z = {g: x @ p["W" + g] + state[0] @ p["U" + g] + p["a" + g] + p["b" + g] for g in "ifgo"}
        c = sigmoid(z["f"]) * state[1] + sigmoid(z["i"]) * np.tanh(z["g"])
        return sigmoid(z["o"]) * np.tanh(c), c

    started = time.process_time()
    found = crosscheck.discover(port, like)
    assert time.process_time() - started < 6  # seconds that are promised for the search
    assert found.decided
    assert found.candidates > 100_000


def test_leaves_that_cannot_be_a_cells():
    shape = lambda *shape: jax.ShapeDtypeStruct(shape, "float32")
    never = lambda *arguments: pytest.fail("fn must not run")
    for like, error, message in (
        ({"w": shape(7, 9)}, ValueError, r"cannot belong to an LSTM cell: w \(7, 9\), 63 numbers in all\. Expected"),
        ({"w": shape(15, 3), "u": shape(15, 5), "b": shape(15)}, ValueError, r"b \(15,\), u \(15, 5\), w \(15, 3\)"),
        ({}, ValueError, "no leaves"),
        ({"w": shape(20, 3), "u": shape(20, 5), "extra": shape(20, 5)}, ValueError, "extra"),
        ({"w": shape(20, 3), "n": jax.ShapeDtypeStruct((), "int32")}, ValueError, "'n'.* must be floating-point"),
        ({"w": 3}, TypeError, "'w'.* must be an array"),
    ):
        with pytest.raises(error, match=message):
            crosscheck.discover(never, like)


def test_functions_that_return_something_else():
    fn, params = torch_cell(3, 5)

    def raising(params, x, state):
        raise RuntimeError("no such kernel")

    for wrong, message in (
        (lambda p, x, s: fn(p, x, s)[0], r"pair of arrays \(3, 5\).*got Tensor \(3, 5\)"),
        (lambda p, x, s: (fn(p, x, s), x), r"got tuple of 2: tuple of 2.*wrap it and return the carry"),
        (lambda p, x, s: (*fn(p, x, s), x), "got tuple of 3"),
        (lambda p, x, s: [a * np.nan for a in fn(p, x, s)], "NaN or inf"),
    ):
        with pytest.raises(ValueError, match=message):
            crosscheck.discover(wrong, params)
    with pytest.raises(RuntimeError, match="no such kernel") as caught:
        crosscheck.discover(raising, params)
    assert "x (3, 3)" in caught.value.__notes__[0]


def test_what_does_not_fit_the_map():
    fn, params = torch_cell(3, 5)
    found = crosscheck.discover(fn, params)
    cell = {name: a.numpy() for name, a in params.items()}
    for call, message in (
        (lambda: found.to_torch({"w": cell["weight_ih"]}), "must have the structure"),
        (lambda: found.to_torch(cell | {"bias_ih": np.ones(3)}), r"'bias_ih'\] must have shape \(20,\); got \(3,\)"),
        (lambda: found.from_torch(cell | {"weight_ih": np.ones((20, 4))}), r"of shape \(20, 3\); got \(20, 4\)"),
        (lambda: found.from_torch({"weight_ih": cell["weight_ih"]}), "'weight_hh'.* got nothing"),
        (lambda: found.from_torch(cell | {"weight_hr": np.ones((2, 5))}), "'weight_hr'.* must be absent"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
