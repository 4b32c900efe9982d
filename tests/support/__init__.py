"""What tests share: samples, other libraries' networks, references in plain JAX and NumPy, readers of documents."""
