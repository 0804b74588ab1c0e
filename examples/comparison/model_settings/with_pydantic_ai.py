from pydantic_ai import Agent

settings = {"temperature": 0.2, "extra_headers": {"X-Tenant": "a"}}
print(Agent("openai-chat:m", model_settings=settings).run_sync("Hello!").output)
