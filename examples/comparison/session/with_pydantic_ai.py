from pathlib import Path

from pydantic_ai import Agent, ModelMessagesTypeAdapter

agent, file = Agent("openai-chat:m"), Path("chat.json")
for question in ("My name is Ann.", "What is my name?"):
    history = ModelMessagesTypeAdapter.validate_json(file.read_bytes()) if file.exists() else []
    result = agent.run_sync(question, message_history=history)
    file.write_bytes(result.all_messages_json())
print(result.output)
