"""The parts of `jax_lstm.gradient_flow`: scaled arrays, the Jacobian of one step, its adjoint, singular values.

Nothing here knows layers, directions or batches: each function takes one row of a batch.
"""
