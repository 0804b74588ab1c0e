"""The documentation site: the pages of docs/, and a reference generated from docstrings."""
