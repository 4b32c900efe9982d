"""Why an implementation of an LSTM disagrees: the first wrong step and gate, and the mistake by name.

The check of the inputs, which is made with the same faults, also lives here. It may make a verdict vacuous.
Nothing else here may judge.
"""
