"""How agentcall, and its peers, stand what local models and their servers do wrong."""
