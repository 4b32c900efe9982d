"""What knows an LSTM: the named cases, the text that some of them read, gates, the sequence in NumPy, teacher forcing.

Nothing here may run an implementation or judge a result.
"""
