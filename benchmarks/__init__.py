"""The benchmark, `python -m benchmarks`: time and memory of jax_lstm beside other libraries, on the same work.

`gpu`, `operations`, `pipeline` and `streaming` are scripts of their own. `results` holds what was measured. No library
is driven here: that is `crosscheck.libraries`.
"""
