"""Training parity: one model, one stream of batches, and the same optimizer in optax and torch.optim, step by step."""
