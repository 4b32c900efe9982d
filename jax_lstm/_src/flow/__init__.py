"""The parts of :func:`jax_lstm.gradient_flow`: numbers with an exponent, one step's Jacobian, singular values."""
