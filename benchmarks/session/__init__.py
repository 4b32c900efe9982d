"""One session on a GPU: the check, the tables, and the conclusions from them. `benchmarks.gpu` runs it."""
