"""The gradient-flow study: how gradients vanish in an RNN and survive in an LSTM, measured in both frameworks."""
