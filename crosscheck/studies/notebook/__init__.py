"""The notebook study: what the teaching notebook's LSTM class computes, by its behaviour only."""
