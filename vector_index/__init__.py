"""Vectors and text in, the nearest passages the asker may see out."""
