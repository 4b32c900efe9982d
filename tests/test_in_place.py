"""Our cells in the place of Flax's own: the same code, with the import changed, gives the same numbers."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx

import jax_lstm
from jax_lstm import LSTMState, convert, linen, nnx

B, T, D, H = 3, 6, 4, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D))
CARRY = tuple(RNG.normal(scale=0.5, size=(2, B, H)))  # Flax's (c, h)
LENGTHS = np.array([6, 1, 4], np.int32)
# Rounding of two programs of the same float64 numbers; in float32 the same bound in its own units.
LIMIT = {jnp.float64: 1e-12, jnp.float32: 1e-12 * 2.0**29}


def drawn(tree):
    """Weights that all differ: an initial bias of zeros would hide a mistake."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.4, size=a.shape), a.dtype), tree)


def assert_same(got, expected, dtype=jnp.float64):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=0, atol=LIMIT[dtype])


def renamed(tree):
    """Every cell's weights of a linen tree as our cell has them."""
    if "ii" in tree:
        return convert.cell(convert.from_flax(tree))
    return {name: renamed(inner) for name, inner in tree.items()}


def rnn(lib, cell, **options):
    return lib.RNN(cell, **options)


def by_scan(cell_of):
    """A module of a user's own: nn.scan by hand, the carry taken apart."""

    class Model(flax_linen.Module):
        @flax_linen.compact
        def __call__(self, x):
            scan = flax_linen.scan(
                lambda cell, carry, x_t: cell(carry, x_t),
                variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1,
            )  # fmt: skip
            cell = cell_of(name="cell")
            c, h = cell.initialize_carry(jax.random.key(0), x[:, 0].shape)
            (c, h), y = scan(cell, (c + 1.0, h), x)
            return c, h, y

    return Model()


IN_CODE = {  # a model from what makes the cell; its arguments
    "RNN": (lambda cell: flax_linen.RNN(cell()), {}),
    "RNN, carry": (lambda cell: flax_linen.RNN(cell(), return_carry=True), {"initial_carry": CARRY}),
    "RNN, reverse": (lambda cell: flax_linen.RNN(cell(), reverse=True, keep_order=True, return_carry=True), {}),
    "RNN, lengths": (lambda cell: flax_linen.RNN(cell(), return_carry=True), {"seq_lengths": LENGTHS}),
    "RNN, unroll": (lambda cell: flax_linen.RNN(cell(), unroll=3), {"init_key": jax.random.key(1)}),
    "RNN, time-major": (lambda cell: flax_linen.RNN(cell(), time_major=True), {}),
    "Bidirectional": (
        lambda cell: flax_linen.Bidirectional(flax_linen.RNN(cell()), flax_linen.RNN(cell()), return_carry=True),
        {"seq_lengths": LENGTHS},
    ),
    "Sequential": (lambda cell: flax_linen.Sequential([flax_linen.RNN(cell()), flax_linen.RNN(cell())]), {}),
    "scan by hand": (by_scan, {}),
}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("name", IN_CODE)
def test_linen_code_runs_unchanged(name, dtype):
    make, options = IN_CODE[name]
    x = jnp.asarray(X, dtype)
    as_dtype = lambda value: tuple(jnp.asarray(a, dtype) for a in value) if value is CARRY else value
    options = {key: as_dtype(value) for key, value in options.items()}
    theirs = make(partial(flax_linen.OptimizedLSTMCell, features=H, param_dtype=dtype))
    ours = make(partial(linen.LSTMCell, features=H, param_dtype=dtype))
    params = drawn(theirs.init(jax.random.key(0), x)["params"])
    mine = renamed(params)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(0), x)["params"]) == jax.tree.map(jnp.shape, mine)
    run = lambda module, weights: jax.jit(lambda w, x: module.apply({"params": w}, x, **options))(weights, x)
    assert_same(run(ours, mine), run(theirs, params), dtype)


def test_gradients_are_the_same_too():
    theirs, ours = (
        flax_linen.RNN(cell(features=H, param_dtype=jnp.float64)) for cell in (flax_linen.LSTMCell, linen.LSTMCell)
    )
    params = drawn(theirs.init(jax.random.key(0), jnp.asarray(X))["params"])
    loss = lambda module: lambda w: jnp.sum(jnp.sin(module.apply({"params": w}, X)))
    expected = convert.cell(convert.from_flax(jax.grad(loss(theirs))(params)))
    got = jax.jit(jax.grad(loss(ours)))(renamed(params))["cell"]
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-11)


def of_nnx(cell, **options):
    kinds = {"dtype": jnp.float64, "param_dtype": jnp.float64}
    return cell(in_features=D, hidden_features=H, rngs=flax_nnx.Rngs(0), **kinds, **options)


def fill(ours, theirs):
    """Both with the same drawn weights."""
    weights = drawn(flax_nnx.to_pure_dict(flax_nnx.state(theirs, flax_nnx.Param)))
    flax_nnx.update(theirs, weights)
    flax_nnx.update(ours, convert.cell(convert.from_nnx(weights)))


@pytest.mark.parametrize("kind", ["LSTMCell", "OptimizedLSTMCell"])
def test_nnx_code_runs_unchanged(kind):
    cells = [of_nnx(nnx.LSTMCell), of_nnx(getattr(flax_nnx, kind))]
    others = [of_nnx(nnx.LSTMCell), of_nnx(getattr(flax_nnx, kind))]
    fill(*cells)
    fill(*others)
    assert (cells[0].in_features, cells[0].hidden_features) == (D, H)
    for make, options in (
        (lambda a, b: flax_nnx.RNN(a, return_carry=True), {"initial_carry": CARRY}),
        (lambda a, b: flax_nnx.RNN(a, reverse=True, return_carry=True), {"seq_lengths": LENGTHS}),
        (lambda a, b: flax_nnx.Bidirectional(flax_nnx.RNN(a), flax_nnx.RNN(b)), {}),
    ):
        run = flax_nnx.jit(lambda m, x, options=options: m(x, **options))
        got, expected = (run(make(a, b), X) for a, b in zip(cells, others, strict=True))
        assert_same(got, expected)

    def by_hand(cell):
        carry = cell.initialize_carry((B, D), flax_nnx.Rngs(0))
        (c, h), y = jax.lax.scan(lambda carry, x: cell(carry, x), carry, X.swapaxes(0, 1))
        return c, h, y

    assert_same(by_hand(cells[0]), by_hand(cells[1]))


def test_a_zero_carry_needs_no_rngs():
    c, h = of_nnx(nnx.LSTMCell).initialize_carry((B, D))
    assert not c.any()
    assert (c.shape, c.dtype, h.shape) == ((B, H), jnp.float64, (B, H))
    c, h = linen.LSTMCell(features=H).initialize_carry(None, (7, B, D))
    assert (c.shape, h.dtype) == ((7, B, H), jnp.float32)


def test_initial_carries_are_drawn_as_asked():
    normal = jax.nn.initializers.normal(1.0)
    cells = (flax_linen.LSTMCell(features=H, carry_init=normal), linen.LSTMCell(features=H, carry_init=normal))
    expected, got = (cell.initialize_carry(jax.random.key(3), (B, D)) for cell in cells)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    c, h = of_nnx(nnx.LSTMCell).initialize_carry((B, D), flax_nnx.Rngs(0), normal)
    assert float(jnp.abs(c - h).min()) > 0
    with pytest.raises(ValueError, match="rngs must be given where carry_init is"):
        of_nnx(nnx.LSTMCell).initialize_carry((B, D), carry_init=normal)


def kernels(params):
    return {name: np.asarray(entry["kernel"]) for name, entry in convert.to_flax(params).items()}


def test_weights_are_drawn_as_flax_draws_them():
    """Orthogonal recurrent kernels a gate, zero biases, and Flax's options on [in, out] kernels of one gate."""
    params = linen.LSTMCell(features=H).init(jax.random.key(0), CARRY, X[:, 0])["params"]
    tree = kernels(params)
    for gate in "ifgo":
        np.testing.assert_allclose(tree["h" + gate] @ tree["h" + gate].T, np.eye(H), atol=1e-5)
    assert not np.any(params["bias_ih"])
    shapes = []

    def by_shape(key, shape, dtype):
        shapes.append((shape, jnp.dtype(dtype)))
        return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

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


def test_functions_that_it_computes_are_taken_and_others_refused():
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


def test_names_are_flaxs_or_ours():
    for wrong, words in (
        ({}, "needs hidden_size, for a carry that is an LSTMState, or else Flax's features, .*; got neither"),
        ({"hidden_size": H, "features": H}, "got {'hidden_size': 5, 'features': 5}"),
        (
            {"hidden_size": H, "kernel_init": jnp.zeros},
            "kernel_init is an option of Flax's cell, for one made with",
        ),
    ):
        with pytest.raises(TypeError, match=words):
            linen.LSTMCell(**wrong)
    rngs = flax_nnx.Rngs(0)
    with pytest.raises(TypeError, match="needs input_size and hidden_size"):
        nnx.LSTMCell(D, hidden_features=H, rngs=rngs)
    with pytest.raises(TypeError, match="carry_init is an option of Flax's"):
        nnx.LSTMCell(D, H, carry_init=jnp.zeros, rngs=rngs)
    with pytest.raises(TypeError, match="LSTMCell has no argument 'kernels'"):
        of_nnx(nnx.LSTMCell, kernels=1)
    for name, value in (("keep_rngs", True), ("kernel_metadata", {"sharding": ("a",)}), ("promote_dtype", max)):
        with pytest.raises(ValueError, match=f"{name} is not supported here: "):
            of_nnx(nnx.LSTMCell, **{name: value})
    of_nnx(nnx.LSTMCell, keep_rngs=False, bias_metadata={})


def test_a_carry_of_the_other_kind_is_refused():
    """h and c have one shape, so that nothing else would notice."""
    flaxs, ours = linen.LSTMCell(features=H), linen.LSTMCell(hidden_size=H)
    weights = ours.init(jax.random.key(0), ours.initialize_carry(None, (B, D)), X[:, 0])
    state = LSTMState(h=CARRY[1], c=CARRY[0])
    for cell, carry, words in (
        (
            ours,
            CARRY,
            r"carry must be an LSTMState; got tuple\. Write LSTMState\(h=\.\.\., c=\.\.\.\), or make the cell",
        ),
        (flaxs, state, r"carry must be the tuple \(c, h\), .* got LSTMState\. Write \(state\.c, state\.h\)"),
        (flaxs, (*CARRY, CARRY[0]), r"carry must be the tuple \(c, h\).* got tuple"),
        (ours, None, "carry must be an LSTMState; got NoneType"),
    ):
        with pytest.raises(TypeError, match=words):
            cell.apply(weights, carry, X[:, 0])
    (c, h), y = flaxs.apply(weights, CARRY, X[:, 0])
    last, _ = ours.apply(weights, state, X[:, 0])
    np.testing.assert_array_equal(c, last.c)
    np.testing.assert_array_equal(y, h)


def test_unpacking_a_state_says_what_to_do():
    with pytest.raises(TypeError, match=r"cannot be unpacked; write state\.h and state\.c.*\(features=\.\.\.\)"):
        c, h = linen.LSTMCell(H).initialize_carry(None, (B, D))  # noqa: RUF059


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cell_of_a_network_and_a_network_of_cells(reverse):
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
