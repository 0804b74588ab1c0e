"""Check a model server: `doctor`, the smoke test and the benchmark."""
