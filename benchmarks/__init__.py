"""What agentcall is measured by, each in a folder of its own."""
