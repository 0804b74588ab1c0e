from pydantic_ai import Agent

stream = Agent("openai-chat:m").run_stream_sync("Tell me a story.")
for text in stream.stream_text(delta=True):
    print(text, end="", flush=True)
