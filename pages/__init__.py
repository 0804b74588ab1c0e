"""The documentation as a site: the pages of docs/, a reference out of docstrings, and an order."""
