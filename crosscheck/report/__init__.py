"""Results as tables, sentences, pages, plots and JSON. No error, limit or outcome is computed here."""
