"""Results as tables, sentences, pages, plots and JSON. No number is computed here, and nothing is judged."""
