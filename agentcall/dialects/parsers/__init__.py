"""The parsers of the model families: one module each; `registry` lists them, `stream` runs them."""
