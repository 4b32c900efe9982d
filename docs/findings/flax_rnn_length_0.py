"""Flax's RNN runs a row of length 0 over its whole padding.

Documented: "elements whose index in the time dimension is greater than the corresponding length will be considered
padding and will be ignored" (seq_lengths of flax.linen.RNN and flax.nnx.RNN).
Seen: with return_carry=True, the carry of a row of length 0 is the carry after all steps of padding, not the initial
carry. It depends on the values in the padding. Rows of length 1 and more are right.
Why it matters: data pipelines produce empty sequences. Their state is then computed from padding, without any warning.
"""

import flax
import jax
import jax.numpy as jnp
from flax import linen, nnx

print("flax", flax.__version__, "jax", jax.__version__)

x = jax.random.normal(jax.random.key(0), (2, 6, 3))
lengths = jnp.array([4, 0])
initial = (jnp.full((2, 5), 0.25), jnp.full((2, 5), 0.5))

of_linen = linen.RNN(linen.LSTMCell(5), return_carry=True)
params = of_linen.init(jax.random.key(1), x)
of_nnx = nnx.RNN(nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0)), return_carry=True)
runs = {
    "flax.linen.RNN": lambda x: of_linen.apply(params, x, initial_carry=initial, seq_lengths=lengths)[0],
    "flax.nnx.RNN": lambda x: of_nnx(x, initial_carry=initial, seq_lengths=lengths)[0],
}
seen = True
for name, run in runs.items():
    carry, other = run(x), run(x.at[:, 4:].add(1.0).at[1].add(1.0))  # only the padding changes
    off = [float(jnp.abs(a[1] - b[1]).max()) for a, b in zip(carry, initial, strict=True)]
    moved = [float(jnp.abs(a - b).max(axis=-1)[1]) for a, b in zip(carry, other, strict=True)]
    right = [float(jnp.abs(a - b).max(axis=-1)[0]) for a, b in zip(carry, other, strict=True)]
    print(
        f"{name}: row of length 0: c and h differ from the initial carry by {off[0]:.2f} and {off[1]:.2f}, expected 0;"
    )
    print(f"  by other padding they change by {moved[0]:.2f} and {moved[1]:.2f}; the row of length 4: by {max(right)}")
    seen = seen and min(off) > 0.01 and min(moved) > 0.01 and max(right) == 0.0
print("seen" if seen else "not seen any more")
raise SystemExit(0 if seen else 1)
