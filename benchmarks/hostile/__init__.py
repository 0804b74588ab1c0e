"""Hostile clients of our servers, and one client that behaves well."""
