"""What sessions and durable runs share: private files, SQLite files, locks and leases, a codec."""
