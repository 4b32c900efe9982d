"""Finds the convention of a cell that is given as a black box: layout, gate order, biases, and a map of its weights.

Nothing here may know cases, other libraries or faults.
"""
