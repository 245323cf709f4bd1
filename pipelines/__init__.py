"""A table becomes searchable, and stays so."""
