"""What knows an LSTM: the named cases, the text that some of them read, the sequence in NumPy, teacher forcing.

No implementation is run here, and no result is judged.
"""
