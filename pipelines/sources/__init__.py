"""Tables of every kind, read as rows an index understands."""
