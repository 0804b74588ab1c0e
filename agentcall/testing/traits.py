"""What a fake server is like whatever it plays: its pages, its context window, its tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import TypedDict

from agentcall.testing.refusals import Flavour, Overflow, no_tools, openai_error
from agentcall.testing.script import Reply
from agentcall.testing.wire import Answer, Request, json_answer


class Traits(TypedDict, total=False):
    """The options of a `FakeServer`; `Nature` says what each is."""

    models: Sequence[str]
    owned_by: str
    like: Flavour
    context: int | None
    drops_tools: bool
    refuses_tools: bool
    answers_probes: bool
    pages: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Nature:
    """The traits of a server.

    `models` (ids) and `owned_by` stand on `/v1/models`. A prompt of more than `context` tokens is
    refused in the words of the server that `like` names, and takes no reply from the script. With
    `drops_tools` tools are ignored: they do not count as prompt tokens, and no script or brain
    sees them. With `refuses_tools` a request with tools gets LMDeploy's 400. `pages` are more
    pages by path, or other ones: a reply, a JSON value, or None for a 404.

    Clients ask servers for one token to see what becomes of tools. With `answers_probes` such a
    request (`Request.is_probe`) takes no reply from a sequence: it is answered with "Hi", or with
    the reply that the script begins to play for ever. It stands in `requests`, with the number 0. A
    function or a brain is asked all the same. Without it a probe is a request like any other.
    """

    models: Sequence[str] = ("fake-model",)
    owned_by: str = "agentcall"
    like: Flavour = "openai"
    context: int | None = None
    drops_tools: bool = False
    refuses_tools: bool = False
    answers_probes: bool = True
    pages: Mapping[str, object] = field(default_factory=dict[str, object])

    def page(self, request: Request) -> Answer:
        """The answer to anything but a chat completion."""
        known = {"/v1/models": self._model_list(), "/health": {"status": "ok"}, **self.pages}
        page = known.get(request.path)
        if page is None:
            words = f"there is no page {request.method} {request.path}"
            return json_answer(openai_error(words, status=404), status=404)
        return page.answer(request) if isinstance(page, Reply) else json_answer(page)

    def _model_list(self) -> object:
        card = {"object": "model", "created": 0, "owned_by": self.owned_by}
        return {"object": "list", "data": [{"id": name, **card} for name in self.models]}

    def seen(self, request: Request) -> Request:
        """The request as the model sees it."""
        if not self.drops_tools:
            return request
        return replace(request, body={**request.body, "tools": []})

    def sets_apart(self, request: Request) -> bool:
        """Whether the request is a probe, and no turn of a conversation."""
        return self.answers_probes and request.is_probe

    def refusal(self, request: Request) -> Answer | None:
        """The answer to a chat request that never reaches the model, or None."""
        if fault := _fault(request):
            return json_answer(openai_error(fault, status=400), status=400)
        if self.refuses_tools and request.tools:
            return json_answer(no_tools(), status=400)
        seen = self.seen(request)
        if self.context is not None and seen.prompt_tokens > self.context:
            return Overflow(self.like, self.context).answer(seen)
        return None


def _fault(request: Request) -> str | None:
    kind = request.headers.get("content-type", "nothing")
    if not kind.startswith("application/json"):
        return f"the Content-Type must be application/json, not {kind}"
    if not isinstance(request.body.get("messages"), list):
        return "the body must be a JSON object with a list of messages"
    return None
