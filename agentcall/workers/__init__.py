"""Where the body of a tool runs: threads, and processes that can be killed."""
