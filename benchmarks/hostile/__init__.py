"""Hostile clients at a server of ours, and one that behaves well."""
