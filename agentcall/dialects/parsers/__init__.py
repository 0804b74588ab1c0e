"""The families of models whose calls can be read out of text, one module each."""
