"""An agent in a web service: answers as JSON, or the events of a run as a stream.

    uvicorn --app-dir examples embed_in_fastapi:app
    curl localhost:8000/ask -H 'Content-Type: application/json' -d '{"question": "17% of 2340?"}'
    curl -N localhost:8000/ask/stream -H 'Content-Type: application/json' -d '{"question": "..."}'

Uses the model named by AGENTCALL_MODEL, else a local LMDeploy, else the embedded model.
"""

import json
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from agentcall import Agent, ModelError
from agentcall.events import event_to_json
from agentcall_tools.calculator import calculator

agent = Agent(tools=[calculator], instructions="Use the calculator for every calculation.")
app = FastAPI()


class Ask(BaseModel):
    """The body of a request."""

    question: str


@app.post("/ask")
async def ask(body: Ask) -> dict[str, str]:
    """Return the answer and the stop reason."""
    try:
        result = await agent.run(body.question)
    except ModelError as error:
        raise HTTPException(502, str(error)) from error
    return {"answer": str(result), "stop_reason": result.stop_reason}


@app.post("/ask/stream")
async def ask_stream(body: Ask) -> StreamingResponse:
    """Stream the events of a run as server-sent events; a disconnect cancels the run."""
    return StreamingResponse(_events(body.question), media_type="text/event-stream")


async def _events(question: str) -> AsyncIterator[str]:
    try:
        async for event in agent.run_stream(question):
            yield f"data: {json.dumps(event_to_json(event), ensure_ascii=False)}\n\n"
    except ModelError as error:
        yield f"data: {json.dumps({'type': 'Error', 'message': str(error)})}\n\n"
