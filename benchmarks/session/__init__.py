"""One session on a GPU: the check, the tables, and what follows from them. `benchmarks.gpu` runs it."""
