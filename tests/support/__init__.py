"""Shared code of tests: samples, networks of other libraries, references in plain JAX and NumPy, document readers."""
