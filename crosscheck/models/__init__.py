"""Pairs of models that are no LSTM, right ones and mistakes in them, as data. No judging happens here."""
