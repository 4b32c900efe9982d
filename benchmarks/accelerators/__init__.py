"""What the compilers of TPU and CUDA make of an LSTM, on a machine that has neither device.

`python -m benchmarks.accelerators` prints and writes the table. tests/accelerators reads the same programs. Nothing
here runs a program, and no figure is a measurement of time.
"""
