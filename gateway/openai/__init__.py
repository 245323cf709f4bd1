"""OpenAI's API, as its unmodified clients speak it: one operation a file, over what is served."""
