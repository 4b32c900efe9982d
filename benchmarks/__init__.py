"""The benchmark, `python -m benchmarks`: time and memory of jax_lstm and other libraries, on the same work.

`gpu`, `operations`, `pipeline` and `streaming` are separate scripts. `results` holds the measurements. The adapters of
the libraries are in `crosscheck.libraries`.
"""
