"""Options of our cells made with Flax's names: initializers, accepted functions, and errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from flax.nnx.nn.dtypes import promote_dtype

import jax_lstm
from jax_lstm import LSTMState, convert, linen, nnx
from tests.jax_lstm.flax_compat.test_same_code import CARRY, B, D, H, X, of_nnx
from tests.support.flax_compat import counting


def test_a_zero_carry_needs_no_rngs():
    c, h = of_nnx(nnx.LSTMCell).initialize_carry((B, D))
    assert not c.any()
    assert (c.shape, c.dtype, h.shape) == ((B, H), jnp.float64, (B, H))
    c, h = linen.LSTMCell(features=H).initialize_carry(None, (7, B, D))
    assert (c.shape, h.dtype) == ((7, B, H), jnp.float32)


def test_carry_init_draws_the_initial_carry():
    normal = jax.nn.initializers.normal(1.0)
    cells = (flax_linen.LSTMCell(features=H, carry_init=normal), linen.LSTMCell(features=H, carry_init=normal))
    expected, got = (cell.initialize_carry(jax.random.key(3), (B, D)) for cell in cells)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    c, h = of_nnx(nnx.LSTMCell).initialize_carry((B, D), flax_nnx.Rngs(0), normal)
    assert float(jnp.abs(c - h).min()) > 0
    with pytest.raises(ValueError, match="rngs must be given if carry_init is"):
        of_nnx(nnx.LSTMCell).initialize_carry((B, D), carry_init=normal)


def kernels(params):
    return {name: np.asarray(entry["kernel"]) for name, entry in convert.to_flax(params).items()}


def test_initial_weights_have_flaxs_distribution():
    """Each gate has an orthogonal recurrent kernel and zero biases. Initializers get the kernel of one gate."""
    params = linen.LSTMCell(features=H).init(jax.random.key(0), CARRY, X[:, 0])["params"]
    tree = kernels(params)
    for gate in "ifgo":
        np.testing.assert_allclose(tree["h" + gate] @ tree["h" + gate].T, np.eye(H), atol=1e-5)
    assert not np.any(params["bias_ih"])
    shapes = []

    def by_shape(key, shape, dtype):
        shapes.append((shape, jnp.dtype(dtype)))
        return counting(key, shape, dtype)

    options = {"kernel_init": by_shape, "recurrent_kernel_init": by_shape, "bias_init": by_shape}
    for draw in (
        lambda: linen.LSTMCell(features=H, **options).init(jax.random.key(0), CARRY, X[:, 0])["params"],
        lambda: flax_nnx.to_pure_dict(flax_nnx.state(of_nnx(nnx.LSTMCell, **options), flax_nnx.Param)),
    ):
        shapes.clear()
        params = draw()
        assert {shape for shape, _ in shapes} == {(D, H), (H, H), (H,)}
        tree = convert.to_flax(params)
        for gate in "ifgo":
            np.testing.assert_array_equal(tree["i" + gate]["kernel"], np.arange(D * H).reshape(D, H))
            np.testing.assert_array_equal(tree["h" + gate]["kernel"], np.arange(H * H).reshape(H, H))
            np.testing.assert_array_equal(tree["h" + gate]["bias"], np.arange(H))
        assert not np.any(params["bias_hh"])


def test_the_optimized_cell_of_nnx_draws_all_gates_at_once():
    shapes = []

    def by_shape(key, shape, dtype):
        shapes.append(shape)
        return jnp.zeros(shape, dtype)

    of_nnx(nnx.OptimizedLSTMCell, kernel_init=by_shape, recurrent_kernel_init=by_shape, bias_init=by_shape)
    assert shapes == [(D, 4 * H), (H, 4 * H), (4 * H,), (4 * H,)]  # bias_hh is drawn too, and then set to zero
    recurrent = np.asarray(of_nnx(nnx.OptimizedLSTMCell).weight_hh[...]).T
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(H), atol=1e-12)


def test_sigmoid_and_tanh_are_accepted_and_other_functions_refused():
    for gate, activation in (
        (flax_linen.sigmoid, flax_linen.tanh),
        (jax.nn.sigmoid, jnp.tanh),
        (jax.lax.logistic, jax.lax.tanh),
    ):
        linen.LSTMCell(features=H, gate_fn=gate, activation_fn=activation)
        of_nnx(nnx.LSTMCell, gate_fn=gate, activation_fn=activation)
    for make in (lambda **o: linen.LSTMCell(features=H, **o), lambda **o: of_nnx(nnx.LSTMCell, **o)):
        with pytest.raises(ValueError, match=r"gate_fn must be sigmoid, which .* computes; got hard_sigmoid"):
            make(gate_fn=jax.nn.hard_sigmoid)
        with pytest.raises(ValueError, match=r"activation_fn must be tanh.* got relu.*Keep Flax's own cell"):
            make(activation_fn=jax.nn.relu)


def test_names_of_flax_and_of_torch_do_not_mix():
    for wrong, words in (
        ({}, "needs hidden_size, for a carry that is an LSTMState, or else Flax's features, .* Got neither"),
        ({"hidden_size": H, "features": H}, "A size by position is Flax's. Got {'hidden_size': 5, 'features': 5}"),
        (
            {"hidden_size": H, "gate_fn": jax.nn.sigmoid},
            "gate_fn is an option of Flax's cell, for one made with features; got hidden_size",
        ),
    ):
        with pytest.raises(TypeError, match=words):
            linen.LSTMCell(**wrong)
    rngs = flax_nnx.Rngs(0)
    with pytest.raises(TypeError, match="needs input_size and hidden_size"):
        nnx.LSTMCell(D, hidden_size=H, rngs=rngs)
    with pytest.raises(TypeError, match="carry_init is an option of Flax's"):
        nnx.LSTMCell(input_size=D, hidden_size=H, carry_init=jnp.zeros, rngs=rngs)
    with pytest.raises(TypeError, match="LSTMCell has no argument 'kernels'"):
        of_nnx(nnx.LSTMCell, kernels=1)
    for name, value in (("keep_rngs", True), ("promote_dtype", max)):
        with pytest.raises(ValueError, match=f"{name} is not supported here: "):
            of_nnx(nnx.LSTMCell, **{name: value})
    of_nnx(nnx.LSTMCell, keep_rngs=False, bias_metadata={}, promote_dtype=promote_dtype)


def test_a_carry_of_the_other_kind_is_refused():
    """h and c have the same shape, so nothing else would notice a swap."""
    flax_named, torch_named = linen.LSTMCell(features=H), linen.LSTMCell(hidden_size=H)
    weights = torch_named.init(jax.random.key(0), torch_named.initialize_carry(None, (B, D)), X[:, 0])
    state = LSTMState(h=CARRY[1], c=CARRY[0])
    for cell, carry, words in (
        (
            torch_named,
            CARRY,
            r"carry must be an LSTMState; got tuple\. Write LSTMState\(h=\.\.\., c=\.\.\.\), or make the cell",
        ),
        (flax_named, state, r"carry must be the tuple \(c, h\), .* got LSTMState\. Write \(state\.c, state\.h\)"),
        (flax_named, (*CARRY, CARRY[0]), r"carry must be the tuple \(c, h\).* got tuple"),
        (torch_named, None, "carry must be an LSTMState; got NoneType"),
    ):
        with pytest.raises(TypeError, match=words):
            cell.apply(weights, carry, X[:, 0])
    (c, h), y = flax_named.apply(weights, CARRY, X[:, 0])
    last, _ = torch_named.apply(weights, state, X[:, 0])
    np.testing.assert_array_equal(c, last.c)
    np.testing.assert_array_equal(y, h)


def test_the_error_of_unpacking_a_state_says_what_to_write():
    with pytest.raises(TypeError, match=r"cannot be unpacked; write state\.h and state\.c.*\(features=\.\.\.\)"):
        c, h = linen.LSTMCell(hidden_size=H).initialize_carry(None, (B, D))  # noqa: RUF059


@pytest.mark.parametrize("reverse", [False, True])
def test_cells_from_a_network_and_a_network_from_cells(reverse):
    params = jax_lstm.init_lstm(jax.random.key(0), D, H, 2, bidirectional=True)
    cells = [convert.cell(params, layer, reverse=back) for layer in range(2) for back in (False, True)]
    end = "_l1" + "_reverse" * reverse
    np.testing.assert_array_equal(convert.cell(params, 1, reverse=reverse)["weight_hh"], params["weight_hh" + end])
    stacked = convert.stack(cells, bidirectional=True)
    assert list(stacked) == list(params)
    assert all(stacked[name] is params[name] for name in params)
    for arguments, words in (((2,), "params have 2 layers, counted from 0; got layer 2"), ((-1,), "got layer -1")):
        with pytest.raises(ValueError, match=words):
            convert.cell(params, *arguments)
    with pytest.raises(ValueError, match="params have one direction"):
        convert.cell(jax_lstm.init_lstm(jax.random.key(0), D, H), reverse=True)
    with pytest.raises(ValueError, match="bidirectional=True wants cells in pairs"):
        convert.stack(cells[:3], bidirectional=True)
    with pytest.raises(ValueError, match="layer 1 has input size 4, where 5 is expected"):
        convert.stack(cells[:2])
