"""Compiled programs, read from their text: computations, loops, and where devices wait for each other."""
