"""Run the body of a tool: in the event loop, in a thread, or in a process that can be killed."""
