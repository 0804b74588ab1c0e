"""What sessions and durable runs share: files, locks."""
