"""Benchmarks that are scripts of their own, and the results of all."""
