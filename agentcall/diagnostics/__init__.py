"""Looking at a server: doctor, smoke test, benchmark."""
