"""NaN in the padding makes the gradients of Flax's RNN NaN, although the loss does not look at the padding.

Documented: elements beyond a row's length "will be considered padding and will be ignored" (seq_lengths of
flax.linen.RNN and flax.nnx.RNN).
Seen: the last carry and the outputs within each row's length are finite, and so is a loss of only these. But the
gradients of all weights are NaN. The padding is run and its outputs are dropped, so the backward pass multiplies 0 by
NaN.
Why it matters: padding that is not cleared (uninitialised memory, log of 0, a missing value) ruins a training, and the
loss does not show it.
"""

import flax
import jax
import jax.numpy as jnp
from flax import linen, nnx

print("flax", flax.__version__, "jax", jax.__version__)

lengths = jnp.array([6, 4])
valid = (jnp.arange(6) < lengths[:, None])[..., None]
clean = jax.random.normal(jax.random.key(0), (2, 6, 3))
x = jnp.where(valid, clean, jnp.nan)
zeros = (jnp.zeros((2, 5)), jnp.zeros((2, 5)))

of_linen = linen.RNN(linen.LSTMCell(5))
params = of_linen.init(jax.random.key(1), clean)
graph, weights, rest = nnx.split(nnx.RNN(nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0))), nnx.Param, ...)


def losses(run):
    """Return two losses: of the outputs within the rows, and of the last carry."""
    outputs = lambda w, x: jnp.sum(jnp.where(valid, run(w, x)[1], 0.0))
    return {"outputs within the rows": outputs, "last h": lambda w, x: jnp.sum(run(w, x)[0][1])}


options = {"initial_carry": zeros, "seq_lengths": lengths, "return_carry": True}
runs = {
    "flax.linen.RNN": (lambda w, x: of_linen.apply(w, x, **options), params),
    "flax.nnx.RNN": (lambda w, x: nnx.merge(graph, w, rest)(x, **options), weights),
}
seen = True
for name, (run, w) in runs.items():
    for what, loss in losses(run).items():
        value, gradients = jax.value_and_grad(loss)(w, x)
        arrays = jax.tree.leaves(gradients)
        nan = sum(bool(jnp.isnan(a).any()) for a in arrays)
        finite = all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(jax.grad(loss)(w, clean)))
        print(f"{name}, loss on {what}: {value:.3f}; NaN in {nan} of {len(arrays)} gradients, expected 0; "
              f"with clean padding all finite: {finite}")  # fmt: skip
        seen = seen and bool(jnp.isfinite(value)) and nan > 0 and finite
print("seen" if seen else "not seen any more")
raise SystemExit(0 if seen else 1)
