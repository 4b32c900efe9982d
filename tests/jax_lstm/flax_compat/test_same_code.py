"""Our cells instead of Flax's cells: the same code with another import gives the same numbers."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jax_lstm import LSTMState, convert, linen, nnx

B, T, D, H = 3, 6, 4, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, D))
CARRY = tuple(RNG.normal(scale=0.5, size=(2, B, H)))  # Flax's (c, h)
LENGTHS = np.array([6, 1, 4], np.int32)
# The rounding of two programs for numbers below 2: about 60 roundings in float32.
LIMIT = {jnp.float64: 1e-12, jnp.float32: 60 * 2.0**-24}


def drawn(tree):
    """Draw weights that all differ. Biases of zeros would hide a mistake."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.4, size=a.shape), a.dtype), tree)


def shapes(module, x):
    """Return the shapes of the parameters of a linen module for x."""
    return jax.eval_shape(module.init, jax.random.key(0), x)["params"]


def assert_same(got, expected, dtype=jnp.float64):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=0, atol=LIMIT[dtype])


def renamed(tree):
    """Convert the weights of every cell in a linen tree to those of our cell."""
    if "ii" in tree:
        return convert.cell(convert.from_flax(tree))
    return {name: renamed(inner) for name, inner in tree.items()}


def rnn(lib, cell, **options):
    return lib.RNN(cell, **options)


def by_scan(cell_of):
    """Return a user's module that calls nn.scan and unpacks the carry."""

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


MODELS = {  # a function from the cell's class to a model; the arguments of the model
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


@pytest.mark.isa
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("name", MODELS)
def test_linen_code_runs_unchanged(name, dtype):
    make, options = MODELS[name]
    x = jnp.asarray(X, dtype)
    as_dtype = lambda value: tuple(jnp.asarray(a, dtype) for a in value) if value is CARRY else value
    options = {key: as_dtype(value) for key, value in options.items()}
    flax_model = make(partial(flax_linen.OptimizedLSTMCell, features=H, param_dtype=dtype))
    our_model = make(partial(linen.LSTMCell, features=H, param_dtype=dtype))
    params = drawn(shapes(flax_model, x))
    our_params = renamed(params)
    assert jax.tree.map(jnp.shape, shapes(our_model, x)) == jax.tree.map(jnp.shape, our_params)
    run = lambda module, weights: jax.jit(lambda w, x: module.apply({"params": w}, x, **options))(weights, x)
    assert_same(run(our_model, our_params), run(flax_model, params), dtype)


def test_gradients_agree():
    theirs, ours = (
        flax_linen.RNN(cell(features=H, param_dtype=jnp.float64)) for cell in (flax_linen.LSTMCell, linen.LSTMCell)
    )
    params = drawn(shapes(theirs, X))
    loss = lambda module: lambda w: jnp.sum(jnp.sin(module.apply({"params": w}, X)))
    expected = convert.cell(convert.from_flax(jax.grad(loss(theirs))(params)))
    got = jax.jit(jax.grad(loss(ours)))(renamed(params))["cell"]
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-11)


def of_nnx(cell, **options):
    kinds = {"dtype": jnp.float64, "param_dtype": jnp.float64}
    return cell(in_features=D, hidden_features=H, rngs=flax_nnx.Rngs(0), **kinds, **options)


def fill(ours, theirs):
    """Give both cells the same random weights."""
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


def test_our_cell_trains_as_flaxs_cell_with_one_bias():
    """If the second bias had a gradient, the sum of both biases would change twice as much in the five steps."""
    cells = (flax_linen.LSTMCell, linen.LSTMCell)
    theirs, ours = (flax_linen.RNN(cell(features=H, param_dtype=jnp.float64)) for cell in cells)
    params = drawn(shapes(theirs, X))
    our_params = renamed(params)

    def descend(module, weights):
        loss = lambda w: jnp.sum(jnp.sin(module.apply({"params": w}, X)))
        for _ in range(5):
            weights = jax.tree.map(lambda a, g: a - 0.1 * g, weights, jax.grad(loss)(weights))
        return weights

    expected = convert.cell(convert.from_flax(jax.jit(lambda w: descend(theirs, w))(params)))
    got = jax.jit(lambda w: descend(ours, w))(our_params)["cell"]
    for name, a in expected.items():
        np.testing.assert_allclose(got[name], a, rtol=0, atol=1e-11)
    assert not np.any(got["bias_hh"])
    state_cell = linen.LSTMCell(hidden_size=H, param_dtype=jnp.float64)
    loss = lambda w: jnp.sum(state_cell.apply({"params": w}, LSTMState(*CARRY), X[:, 0])[1])
    gradient = jax.grad(loss)(our_params["cell"])
    np.testing.assert_array_equal(gradient["bias_hh"], gradient["bias_ih"])  # with our names, two biases


def test_both_names_of_flaxs_cells_exist():
    """A compact module of Flax names its parameters after the class."""

    class Model(flax_linen.Module):
        cells: object

        @flax_linen.compact
        def __call__(self, x):
            return flax_linen.RNN(self.cells.OptimizedLSTMCell(features=H))(x)

    paths = [list(Model(lib).init(jax.random.key(0), jnp.float32(X))["params"]) for lib in (flax_linen, linen)]
    assert paths[0] == paths[1] == ["OptimizedLSTMCell_0"]
    assert issubclass(linen.OptimizedLSTMCell, linen.LSTMCell)
