"""Adapters: each drives one framework from within the environment that holds it."""
