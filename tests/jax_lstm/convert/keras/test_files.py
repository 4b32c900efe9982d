"""Models that Keras built, trained and saved are read from their files without Keras."""

from __future__ import annotations

import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lstm
from jax_lstm import convert
from tests.project.test_architecture import run_without
from tests.support.keras_layers import QUIET, drawn, keras
from tests.support.requirements import need

pytestmark = QUIET
h5py = need("h5py")
L = keras.layers
D, H = 3, 4


def same(params, layers):
    both_ways = isinstance(layers[0], L.Bidirectional)
    wanted = convert.from_keras([a for layer in layers for a in layer.get_weights()], bidirectional=both_ways)
    assert list(params) == list(wanted)
    for name, array in wanted.items():
        assert params[name].dtype == array.dtype
        np.testing.assert_array_equal(params[name], array)


def save(model, folder):
    """Save both kinds of files."""
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    return folder / "model.keras", folder / "model.weights.h5"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train a classifier of token sequences for a few steps. Return its two files, tokens and its outputs."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            L.Embedding(11, D),
            L.Dropout(0.2),
            L.Bidirectional(L.LSTM(H, return_sequences=True), name="both_ways"),
            L.LSTM(5, return_sequences=True, dropout=0.1, recurrent_dropout=0.1, name="middle"),
            L.LSTM(5, name="last"),
            L.Dense(2),
        ]
    )
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 11, (6, 9)).astype("int32")
    drawn(model).compile("adam", "mse")
    before = model.get_weights()
    for _ in range(3):
        model.train_on_batch(tokens, rng.normal(size=(6, 2)).astype("float32"))
    assert all(np.any(a != b) for a, b in zip(model.get_weights(), before, strict=True))
    return model, save(model, tmp_path_factory.mktemp("trained")), tokens, np.asarray(model(tokens, training=False))


@pytest.mark.isa
@pytest.mark.parametrize("kind", [0, 1], ids=["keras", "weights.h5"])
def test_a_trained_model_gives_the_same_outputs(trained, kind):
    """Both run in float32 on outputs of order 1. They differ by a dozen roundings of 6e-8, in another order."""
    model, files, tokens, wanted = trained
    both = convert.from_keras(files[kind], layers="both_ways")
    upper = convert.from_keras(str(files[kind]), layers=("middle", "last"))
    same(both, model.layers[2:3])
    same(upper, model.layers[3:5])
    table, (kernel, bias) = model.layers[0].get_weights()[0], model.layers[-1].get_weights()

    @jax.jit
    def run(both, upper, x):
        y, _ = jax_lstm.lstm(both, x)
        y, _ = jax_lstm.lstm(upper, y)
        return y[:, -1] @ kernel + bias

    assert 0.1 < np.abs(wanted).max() < 10
    np.testing.assert_allclose(run(both, upper, table[tokens]), wanted, rtol=0, atol=5e-6)


def test_without_a_choice_the_layers_must_be_one_stack(trained):
    _, (archive, weights), _, _ = trained
    with pytest.raises(ValueError, match=r"1 direction and layer 0 has 2.*choose.*: 'both_ways', 'middle', 'last'"):
        convert.from_keras(archive)
    with pytest.raises(ValueError, match=r"in which order.* 'both_ways', 'middle', 'last'\. Name them"):
        convert.from_keras(weights)
    for file in (archive, weights):
        with pytest.raises(
            ValueError, match="there is no layer 'lstm'; the LSTM layers are: 'both_ways', 'middle', 'l"
        ):
            convert.from_keras(file, layers=["lstm"])  # the group of the layer 'middle'
        with pytest.raises(ValueError, match=r"layer 0 has 2.*choose.*: 'both_ways', 'middle', 'last'"):
            convert.from_keras(file, layers=["both_ways", "middle"])
        with pytest.raises(ValueError, match="layers is empty"):
            convert.from_keras(file, layers=[])
    with pytest.raises(ValueError, match=r"'dense.*' is a Dense, no LSTM"):
        convert.from_keras(archive, layers=trained[0].layers[-1].name)


def test_keras_is_not_needed(trained):
    code = f"from jax_lstm import convert; print(*convert.from_keras({str(trained[1][0])!r}, layers='last'), sep=',')"
    names = "weight_ih_l0,weight_hh_l0,bias_ih_l0,bias_hh_l0\n"
    assert run_without({"keras", "tensorflow", "torch"}, code) == names


def deep(count):
    return keras.Sequential(
        [keras.Input((None, D))]
        + [L.LSTM(H, return_sequences=True, use_bias=False, name=chr(ord("z") - n)) for n in range(count)]
    )


def test_more_layers_than_ten_come_in_order(tmp_path):
    """In the file, the groups are in the order lstm, lstm_1, lstm_10, lstm_11, lstm_2, ...; names descend: z, y, ..."""
    model = drawn(deep(12))
    for file in save(model, tmp_path):
        same(convert.from_keras(file), model.layers)
        same(convert.from_keras(file, layers=[model.layers[2].name]), model.layers[2:3])


def test_a_stack_of_bidirectional_layers(tmp_path):
    layers = [L.Bidirectional(L.LSTM(H, return_sequences=True)) for _ in range(2)]
    model = drawn(keras.Sequential([keras.Input((None, D)), layers[0], L.Dropout(0.5), layers[1], L.Dense(1)]))
    for file in save(model, tmp_path):
        same(convert.from_keras(file), layers)


def test_cells_in_rnn_and_models_in_models(tmp_path):
    x = keras.Input((None, D))
    stack = L.RNN([L.LSTMCell(H), L.LSTMCell(H)], return_sequences=True, name="stack")
    inner = keras.Sequential(
        [keras.Input((None, H)), L.LSTM(H, return_sequences=True, name="one"), L.LSTM(H, name="two")], name="inner"
    )
    model = drawn(keras.Model(x, inner(L.RNN(L.LSTMCell(H), return_sequences=True, name="single")(stack(x)))))
    for file in save(model, tmp_path):
        same(convert.from_keras(file, layers="stack"), [stack])
        same(convert.from_keras(file, layers=["stack", "single"]), model.layers[1:3])
        same(convert.from_keras(file, layers=["inner/one", "inner/two"]), inner.layers)
    same(convert.from_keras(model, layers=["inner/one", "inner/two"]), inner.layers)
    with pytest.raises(ValueError, match="the LSTM layers are: 'stack', 'single', 'inner/one', 'inner/two'"):
        convert.from_keras(model, layers=["one"])


def between(layer):
    return keras.Sequential([keras.Input((4, H)), L.LSTM(H, return_sequences=True), layer, L.LSTM(H, name="b")])


def branches():
    x = keras.Input((None, H))
    a, b = (L.LSTM(H, return_sequences=True, name=name) for name in "ab")
    return keras.Model(x, a(x) + b(x))


def decoder():
    x = keras.Input((None, H))
    _, *state = L.LSTM(H, return_state=True, name="a")(x)
    return keras.Model(x, L.LSTM(H, name="b")(x, initial_state=state))


def on_a_state():
    x = keras.Input((4, H))
    _, h, _ = L.LSTM(H, return_state=True, name="a")(x)
    return keras.Model(x, L.LSTM(H, name="b")(L.RepeatVector(4)(h)))


NO_STACK = {
    "normalised": (lambda: between(L.LayerNormalization(name="norm")), "'b' reads norm, and not 'lstm"),
    "a Dense": (lambda: between(L.Dense(H, name="dense")), "'b' reads dense, and not 'lstm"),
    "a GRU": (lambda: between(L.GRU(H, return_sequences=True, name="gru")), "'b' reads gru, and not 'lstm"),
    "repeated": (on_a_state, "'b' reads repeat_vector.*, and not 'a'"),
    "branches": (branches, "'b' reads input_layer.*, and not 'a'"),
    "a decoder": (decoder, "'b' reads input_layer.*, and not 'a'"),
}


@pytest.mark.parametrize("name", NO_STACK)
def test_layers_that_do_not_follow_one_another_are_no_stack(name, tmp_path):
    """All sizes are equal, so shapes cannot show a wrong order."""
    make, match = NO_STACK[name]
    model = make()
    model.save(tmp_path / "a.keras")
    for source in (model, tmp_path / "a.keras"):
        with pytest.raises(ValueError, match=match):
            convert.from_keras(source)
        same(convert.from_keras(source, layers="b"), [model.get_layer("b")])


REFUSED = {
    "activation": (lambda: L.LSTM(H, activation="relu", name="a"), "a has activation='relu'"),
    "go_backwards": (lambda: L.LSTM(H, go_backwards=True, name="a"), "a has go_backwards=True"),
    "merge_mode": (lambda: L.Bidirectional(L.LSTM(H), merge_mode="ave", name="a"), "a has merge_mode='ave'"),
    "GRU": (lambda: L.GRU(H, name="a"), r"there is no LSTM layer; the layers are: .*a \(GRU\)\. Supported"),
    "Bidirectional GRU": (
        lambda: L.Bidirectional(L.GRU(H), name="a"),
        r"there is no LSTM layer; .*a \(Bidirectional\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_configurations_in_files_are_held_to_ours(name, tmp_path):
    make, match = REFUSED[name]
    archive, weights = save(keras.Sequential([keras.Input((None, D)), make()]), tmp_path)
    with pytest.raises(ValueError, match=f"model.keras: {match}"):
        convert.from_keras(archive)
    if "GRU" in name:
        with pytest.raises(ValueError, match=r"model.weights.h5: there is no LSTM layer; the layers are: "):
            convert.from_keras(weights)


class Own(keras.Model):
    """A model whose layers are attributes. A file has them in alphabetical order."""

    def __init__(self):
        super().__init__()
        self.lower = L.LSTM(D, return_sequences=True, name="first")
        self.higher = L.LSTM(D, name="second")

    def call(self, x):
        return self.higher(self.lower(x))


def test_a_model_of_the_user_s_own_class(tmp_path):
    model = Own()
    model(np.zeros((1, 2, D)))
    layers = [model.lower, model.higher]
    archive, weights = save(drawn(model), tmp_path)
    for source in (archive, model):
        with pytest.raises(ValueError, match=r"is a .*Own"):
            convert.from_keras(source)
    with pytest.raises(ValueError, match=r"does not say in which order.*'second', 'first'"):
        convert.from_keras(weights)
    same(convert.from_keras(weights, layers=("first", "second")), layers)
    with pytest.raises(ValueError, match="layers: there is no layer 'lower'; the LSTM layers are: 'second', 'first'"):
        convert.from_keras(weights, layers="lower")
    same(convert.from_keras(layers), layers)


def test_files_from_before_keras_wrote_names(trained, tmp_path):
    """Keras 3.3 writes no names: a .weights.h5's layers are named by their groups, a .keras's by the configuration."""
    model, (archive, weights), _, _ = trained

    def forget(path):
        with h5py.File(path, "r+") as file:
            file.visititems(lambda name, group: group.attrs.pop("name", None) and None)

    (tmp_path / "a.weights.h5").write_bytes(weights.read_bytes())
    forget(tmp_path / "a.weights.h5")
    same(convert.from_keras(tmp_path / "a.weights.h5", layers=["lstm", "lstm_1"]), model.layers[3:5])
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(tmp_path / "a.keras", "w") as new:
        new.writestr("config.json", old.read("config.json"))
        new.writestr("model.weights.h5", (tmp_path / "a.weights.h5").read_bytes())
    same(convert.from_keras(tmp_path / "a.keras", layers="last"), model.layers[4:5])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes_come_as_they_are(dtype, tmp_path):
    layer = L.LSTM(H, dtype=dtype, recurrent_initializer="glorot_uniform")  # the default runs a QR decomposition
    model = drawn(keras.Sequential([keras.Input((None, D)), layer]))
    for file in save(model, tmp_path):
        same(convert.from_keras(file), [layer])
        assert convert.from_keras(file, dtype=jnp.float32)["weight_ih_l0"].dtype == jnp.float32
