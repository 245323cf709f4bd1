"""A question becomes a cited answer. No HTTP."""
