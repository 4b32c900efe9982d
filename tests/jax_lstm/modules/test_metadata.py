"""Flax's initializers for an LSTM, and the metadata that they attach, in init, apply and grad."""

from __future__ import annotations

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.sharding import PartitionSpec as P

import jax_lstm
from jax_lstm import LSTMState, convert, linen, nnx
from tests.support.arrays import normal
from tests.support.flax_compat import counting

B, T, D, H = 4, 6, 3, 8
X = normal((B, T, D))
STATE = LSTMState(h=np.full((1, B, H), 0.3), c=np.full((1, B, H), -0.4))
KEY = jax.random.key(0)
INITS = {
    "kernel_init": nn.initializers.lecun_normal(),
    "recurrent_kernel_init": nn.initializers.orthogonal(),
    "bias_init": nn.initializers.normal(1.0),
}
NAMES = {"kernel_init": ("d", "gates"), "recurrent_kernel_init": ("h", "gates"), "bias_init": ("gates",)}
ON_ARRAY = {"weight_ih": ("gates", "d"), "weight_hh": ("gates", "h"), "bias_ih": ("gates",), "bias_hh": ("gates",)}
F64 = {"param_dtype": jnp.float64}


def boxed(wrap=nn.with_partitioning, names=NAMES):
    return {option: wrap(init, names[option]) for option, init in INITS.items()}


def axes_of(name):
    """Return the axis names in the metadata of a parameter."""
    return ON_ARRAY[name.partition("_l")[0]]


SHAPES = {"one layer": {}, "two layers, both directions": {"num_layers": 2, "bidirectional": True, "proj_size": 2}}


@pytest.mark.parametrize("name", SHAPES)
def test_initializers_draw_every_layer(name):
    """Each gate has a kernel `[in, H]` with its own key, and a bias; bias_hh is zero."""
    shapes = []

    def counted(option):
        def init(key, shape, dtype):
            shapes.append((option, shape))
            return jax.random.normal(key, shape, dtype)

        return init

    options = SHAPES[name] | {option: counted(option) for option in INITS}
    nnx_state = lambda: flax_nnx.state(nnx.LSTM(D, H, **options, **F64, rngs=flax_nnx.Rngs(0)), flax_nnx.Param)
    for draw in (
        lambda: linen.LSTM(H, **options, **F64).init(KEY, X)["params"],
        lambda: flax_nnx.to_pure_dict(nnx_state()),
    ):
        params = draw()
        width = options.get("proj_size", H)
        first = {("kernel_init", (D, H)), ("recurrent_kernel_init", (width, H)), ("bias_init", (H,))}
        assert set(shapes) == first | ({("kernel_init", (2 * width, H))} if len(params) > 4 else set())
        shapes.clear()
        drawn = [np.asarray(a) for n, a in params.items() if not n.startswith(("bias_hh", "weight_hr"))]
        gates = [gate.ravel()[:8].tobytes() for a in drawn for gate in np.split(a, 4)]
        assert len(set(gates)) == len(gates) == 4 * len(drawn)
        assert not any(np.any(a) for n, a in params.items() if n.startswith("bias_hh"))


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_bias_init_draws_no_more_than_bias_ih(name):
    """bias_hh is zero and needs only the box, so the initializer is only traced for it."""
    drawn = []

    def ones(key, shape, dtype):
        if not isinstance(key, jax.core.Tracer):
            drawn.append(shape)
        return jnp.ones(shape, dtype)

    if name == "linen":
        linen.LSTM(H, bias_init=ones).init(jax.random.key(0), jnp.zeros((1, D)))
    else:
        nnx.LSTM(D, H, bias_init=ones, rngs=flax_nnx.Rngs(0))
    assert drawn == [(H,)] * 4


def test_a_kernel_is_the_transpose_of_the_rows_of_its_gate():
    kernels = {"kernel_init": counting}
    params = linen.LSTM(H, **kernels, **F64).init(KEY, X)["params"]
    tree = convert.to_flax(convert.cell(params))
    for gate in "ifgo":
        np.testing.assert_array_equal(tree["i" + gate]["kernel"], np.arange(D * H).reshape(D, H))


def test_the_style_draws_what_has_no_initializer():
    options = {"style": "keras", "kernel_init": nn.initializers.zeros}
    params = linen.LSTM(H, **options).init(KEY, X)["params"]
    assert not np.any(params["weight_ih_l0"])
    np.testing.assert_array_equal(params["bias_ih_l0"][H : 2 * H], np.ones(H))
    assert np.any(params["weight_hh_l0"])


@pytest.mark.parametrize("wrap", [nn.with_partitioning, nn.with_logical_partitioning])
@pytest.mark.parametrize("name", SHAPES)
def test_linen_metadata_in_init_apply_and_grad(name, wrap):
    options = SHAPES[name] | F64
    module = linen.LSTM(H, **options, **boxed(wrap))
    variables = module.init(KEY, X)
    plain = linen.LSTM(H, **options, **INITS).init(KEY, X)["params"]
    for entry, box in variables["params"].items():
        if entry.startswith("weight_hr"):
            assert isinstance(box, jax.Array)
            continue
        assert isinstance(box, nn.Partitioned)
        assert isinstance(box, nn.LogicallyPartitioned) == (wrap is nn.with_logical_partitioning)
        assert box.names == axes_of(entry)
        assert nn.get_partition_spec(variables)["params"][entry] == P(*axes_of(entry))
    jax.tree.map(np.testing.assert_array_equal, nn.unbox(variables["params"]), plain)

    loss = lambda p: jnp.sum(jnp.sin(module.apply({"params": p}, X)[0]))
    value_and_gradient = jax.jit(jax.value_and_grad(loss))
    (value, got), (plain_value, plain_gradient) = map(value_and_gradient, (variables["params"], plain))
    np.testing.assert_array_equal(value, plain_value)
    jax.tree.map(np.testing.assert_array_equal, nn.unbox(got), plain_gradient)
    assert jax.tree.structure(got) == jax.tree.structure(variables["params"])
    expected = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(jax_lstm.lstm(p, X)[0]))))(plain)
    for entry, gradient in nn.unbox(got).items():
        np.testing.assert_allclose(gradient, expected[entry], rtol=1e-12, atol=1e-12)


def test_a_step_and_a_stream_take_boxed_parameters():
    module = linen.LSTM(H, **boxed(), **F64)
    variables = module.init(KEY, X[:, 0], STATE, method="step")
    assert variables["params"]["weight_ih_l0"].names == ("gates", "d")
    plain = {"params": nn.unbox(variables["params"])}
    for x, method in ((X[:, 0], "step"), (X, "stream"), (X, "__call__")):
        got, expected = (module.apply(v, x, STATE, method=method) for v in (variables, plain))
        jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("size", [{"features": H}, {"hidden_size": H}])
def test_a_linen_cell_takes_boxed_parameters(size):
    rnn = nn.RNN(linen.LSTMCell(**size, **boxed(), **F64))
    variables = rnn.init(KEY, X)
    assert {name: box.names for name, box in variables["params"]["cell"].items()} == ON_ARRAY
    loss = lambda v: jnp.sum(jnp.sin(rnn.apply(v, X)))
    got = jax.jit(jax.grad(loss))(variables)
    expected = jax.jit(jax.grad(loss))(nn.unbox(variables))
    assert jax.tree.structure(got) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, nn.unbox(got), expected)
    assert np.any(got["params"]["cell"]["bias_hh"].value) == ("hidden_size" in size)


def test_lifted_transformations_add_their_axis_to_the_metadata():
    """The example is nn.vmap over an ensemble."""
    ensemble = nn.vmap(
        linen.LSTM,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,
        metadata_params={nn.meta.PARTITION_NAME: "ensemble"},
        axis_size=2,
    )(H, **boxed(), **F64)
    variables = ensemble.init(KEY, X)
    assert variables["params"]["weight_ih_l0"].names == ("ensemble", "gates", "d")
    y, _ = ensemble.apply(variables, X)
    member = jax.tree.map(lambda a: a[1], nn.unbox(variables))
    np.testing.assert_allclose(y[1], linen.LSTM(H, **F64).apply(member, X)[0], rtol=1e-12)


def test_axes_without_a_name_get_none():
    init = {"kernel_init": nn.with_partitioning(INITS["kernel_init"], ("d",))}
    box = linen.LSTM(H, **init).init(KEY, X)["params"]["weight_ih_l0"]
    assert box.names == (None, "d")


def test_a_box_of_another_kind_keeps_its_content():
    class Noted(flax.struct.PyTreeNode, nn.meta.AxisMetadata):
        value: object
        note: str = flax.struct.field(pytree_node=False)

        unbox = lambda self: self.value
        replace_boxed = lambda self, value: self.replace(value=value)
        add_axis = remove_axis = None

    init = lambda key, shape, dtype: Noted(INITS["kernel_init"](key, shape, dtype), "mine")
    module = linen.LSTM(H, kernel_init=init)
    variables = module.init(KEY, X)
    box = variables["params"]["weight_ih_l0"]
    assert (box.note, box.value.shape) == ("mine", (4 * H, D))
    assert module.apply(variables, X)[0].shape == (B, T, H)


def mesh_of_two():
    return jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))


SHARDED = {"kernel_init": (None, "model"), "recurrent_kernel_init": (None, "model"), "bias_init": ("model",)}


def test_linen_arrays_are_sharded_by_their_names():
    """The shards are rows of the `[4H, in]` matrix."""
    module = linen.LSTM(H, **boxed(names=SHARDED), **F64)
    expected = module.init(KEY, X)
    mesh = mesh_of_two()
    with jax.set_mesh(mesh):
        places = nn.get_sharding(jax.eval_shape(module.init, KEY, X), mesh)
        variables = jax.jit(module.init, out_shardings=places)(KEY, X)
        weight = variables["params"]["weight_ih_l0"].value
        assert [s.data.shape for s in weight.addressable_shards] == [(2 * H, D)] * 2
        y, _ = jax.jit(module.apply)(variables, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), variables, expected)
    np.testing.assert_allclose(y, module.apply(expected, X)[0], rtol=1e-12, atol=1e-13)


def nnx_module(name, **options):
    rngs = flax_nnx.Rngs(0)
    if name == "LSTMCell, torch's names":
        return nnx.LSTMCell(input_size=D, hidden_size=H, **options, **F64, rngs=rngs)
    return getattr(nnx, name)(D, H, **options, **F64, rngs=rngs)


def run(module, x=X):
    return module(x)[0] if isinstance(module, nnx.LSTM) else flax_nnx.RNN(module)(x)


METADATA = {"kernel_metadata": "kernel_init", "recurrent_kernel_metadata": "recurrent_kernel_init"}
WAYS = {
    "initializers": boxed(flax_nnx.with_partitioning),
    "metadata": INITS
    | {option: {"out_sharding": NAMES[init]} for option, init in METADATA.items()}
    | {"bias_metadata": {"out_sharding": ("gates",), "note": "mine"}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["LSTM", "LSTMCell", "OptimizedLSTMCell", "LSTMCell, torch's names"])
def test_nnx_metadata_in_init_apply_and_grad(name, way):
    with flax_nnx.use_eager_sharding(False):  # no mesh has axes with these names
        module, plain = nnx_module(name, **WAYS[way]), nnx_module(name, **INITS)
    params, expected = (flax_nnx.state(m, flax_nnx.Param) for m in (module, plain))
    for entry, param in params.items():
        assert param.get_metadata("out_sharding") == axes_of(entry)
        assert flax_nnx.get_partition_spec(params)[entry].get_value() == P(*axes_of(entry))
        assert param.get_metadata("note", None) == ("mine" if way == "metadata" and "bias" in entry else None)
        np.testing.assert_array_equal(param[...], expected[entry][...])
    loss = lambda m: jnp.sum(jnp.sin(run(m)))
    np.testing.assert_array_equal(loss(module), loss(plain))
    got, expected = (flax_nnx.grad(loss)(m) for m in (module, plain))
    for entry, param in got.items():
        assert param.get_metadata("out_sharding") == axes_of(entry)
        np.testing.assert_array_equal(param[...], expected[entry][...])


def test_nnx_arrays_are_sharded_by_their_names():
    expected = nnx.LSTM(D, H, **INITS, **F64, rngs=flax_nnx.Rngs(0))
    with jax.set_mesh(mesh_of_two()):
        module = nnx.LSTM(D, H, **boxed(flax_nnx.with_partitioning, SHARDED), **F64, rngs=flax_nnx.Rngs(0))
        assert [s.data.shape for s in module.weight_ih_l0[...].addressable_shards] == [(2 * H, D)] * 2
        y, _ = jax.jit(lambda m, x: m(x))(module, X)
    np.testing.assert_allclose(y, expected(X)[0], rtol=1e-12, atol=1e-13)


def test_a_wrapper_of_the_other_api_is_refused():
    with pytest.raises(
        ValueError, match=r"got VariableMetadata\. .*with_partitioning of flax\.linen in a linen module"
    ):
        linen.LSTM(H, **boxed(flax_nnx.with_partitioning)).init(KEY, X)
    with pytest.raises(ValueError, match=r"got Partitioned\. .*of flax\.nnx in an nnx module"):
        nnx_module("LSTM", **boxed())


REFUSED = {
    "two forget biases": ({"bias_init": jnp.zeros, "forget_bias": 1.0}, ValueError, "bias_init .* beside forget_bias"),
    "no bias": ({"bias_init": jnp.zeros, "bias": False}, ValueError, "bias_init .* beside bias=False"),
    "no function": ({"kernel_init": "normal"}, TypeError, "kernel_init must be a function; got str"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_contradict_each_other_are_refused(name):
    options, error, message = REFUSED[name]
    for make in (
        lambda: linen.LSTM(H, **options).init(KEY, X),
        lambda: nnx.LSTM(D, H, **options, rngs=flax_nnx.Rngs(0)),
        lambda: linen.LSTMCell(hidden_size=H, **options).init(KEY, LSTMState(STATE.h[0], STATE.c[0]), X[:, 0]),
    ):
        with pytest.raises(error, match=message):
            make()
