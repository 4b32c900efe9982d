"""The instrument for any pair of programs: what is computed, how both run, what rounding explains, and the verdict.

Nothing here may know an LSTM, a library besides JAX and torch, a file format or a screen. It imports no other folder
of crosscheck.
"""
