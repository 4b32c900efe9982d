"""Keras on its JAX backend computes a float64 LSTM's tanh in float32.

Documented: a layer's dtype is "the dtype of the layer's computations and weights" (keras.layers.Layer).
Seen: LSTM(dtype="float64") gives float64 arrays whose values are those of a float32 tanh. keras.ops.tanh of a float64
array is float32, because keras.backend.result_type("float64", float) is float32 even if x64 is on; cos, sin and
other functions do the same, exp and sigmoid do not.
Why it matters: a check of dtypes passes, but a reference that was run in float64 has only float32's precision.
Upstream: keras-team/keras issue 23223, fixed by pull request 23225. The versions tried do not include the fix.
"""

import os

os.environ["KERAS_BACKEND"], os.environ["JAX_ENABLE_X64"] = "jax", "1"  # both are read once, at import

import jax
import keras
import numpy as np

print("keras", keras.__version__, "jax", jax.__version__)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


rng = np.random.default_rng(0)
x = rng.normal(size=(2, 7, 3))
layer = keras.layers.LSTM(4, dtype="float64", return_sequences=True)
y = np.asarray(layer(x))
kernel, recurrent, bias = (np.asarray(w, np.float64) for w in layer.get_weights())
h = c = np.zeros((2, 4))
for t in range(7):
    i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
error = np.abs(y[:, -1] - h).max()
tanh = keras.ops.tanh(jax.numpy.linspace(-1, 1, 5, dtype="float64"))
print("layer.compute_dtype:", layer.compute_dtype, "| dtype of its output:", y.dtype)
print("dtype of keras.ops.tanh(float64):", tanh.dtype, "| of result_type:", keras.backend.result_type("float64", float))
print(f"largest error of the output: {error:.1e}, expected about 1e-16")
seen = y.dtype == np.float64 and error > 1e-12
print("seen" if seen else "not seen any more")
raise SystemExit(0 if seen else 1)
