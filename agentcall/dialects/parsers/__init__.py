"""The parsers of the model families: one module each; `families` lists them, `stream` runs them."""
