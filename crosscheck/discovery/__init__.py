"""Finds the convention of a cell that is given as a black box: layouts, gate order, biases, and a map of its weights.

It knows nothing of cases, of other libraries or of faults.
"""
