"""Train an LSTM to read handwritten digits row by row, with only linen, optax and a TrainState.

Run ``python -m examples.plain_training.train``. It takes a few seconds. It saves nothing.
examples/sequence_classification has a training that continues after it was killed.
"""

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jax_lstm import linen


class Classifier(nn.Module):
    """Read a sequence of rows, and classify it by the last hidden state."""

    @nn.compact
    def __call__(self, rows):
        _, state = linen.LSTM(hidden_size=64)(rows)  # rows [B, T, D], state.h [layers, B, H]
        return nn.Dense(10)(state.h[-1])


@jax.jit
def train_step(state, rows, labels):
    def loss(params):
        logits = state.apply_fn({"params": params}, rows)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradients = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=gradients), value


def main(epochs=30, batch=64):
    images, labels = load_digits(return_X_y=True)
    rows = (images / 16).reshape(-1, 8, 8).astype("float32")  # [N, T, D]: 8 steps, one row of pixels per step
    train_x, test_x, train_y, test_y = train_test_split(rows, labels, test_size=0.25, random_state=0, stratify=labels)

    model = Classifier()
    params = model.init(jax.random.key(0), train_x[:1])["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(3e-3))
    rng = np.random.default_rng(0)
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(train_x))[: len(train_x) // batch * batch].reshape(-1, batch)
        losses = []
        for chosen in order:
            state, value = train_step(state, train_x[chosen], train_y[chosen])
            losses.append(value)
        if epoch % 10 == 0:
            print(f"epoch {epoch}: loss {np.mean(losses):.4f}")
    predicted = model.apply({"params": state.params}, test_x).argmax(axis=-1)
    accuracy = float((predicted == test_y).mean())
    print(f"right on {accuracy:.1%} of {len(test_y)} test images")
    return accuracy


if __name__ == "__main__":
    main()
