"""The functions behind `jax_lstm`: the cell, the time loop and its derivative, options, initialization.

Nothing here is public. It imports neither `jax_lstm.convert`, nor `jax_lstm.linen` or `jax_lstm.nnx`. Only
`module_state` imports Flax.
"""
