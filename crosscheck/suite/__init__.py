"""Whole cross-checks of a named case, of any pair and of every library, shrinking, and the mutation score.

Results are values. Nothing here may print or draw.
"""
