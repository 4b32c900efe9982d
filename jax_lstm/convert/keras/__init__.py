"""Keras's LSTM, of Keras 2 and 3: weights, layers, models and files."""
