"""What a fake server is like whatever it plays: its pages, its context window, its tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import TypedDict

from agentcall.testing.refusals import OverflowReply, ServerKind, no_tools_error, openai_error
from agentcall.testing.script import Reply
from agentcall.testing.wire import FakeResponse, RecordedRequest, make_json_response


class ServerProfileOptions(TypedDict, total=False):
    """The options of a `FakeServer`; `ServerProfile` says what each is."""

    models: Sequence[str]
    owned_by: str
    like: ServerKind
    context: int | None
    drops_tools: bool
    refuses_tools: bool
    answers_probes: bool
    pages: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ServerProfile:
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
    like: ServerKind = "openai"
    context: int | None = None
    drops_tools: bool = False
    refuses_tools: bool = False
    answers_probes: bool = True
    pages: Mapping[str, object] = field(default_factory=dict[str, object])

    def answer_page(self, request: RecordedRequest) -> FakeResponse:
        """The answer to anything but a chat completion."""
        known = {"/v1/models": self._list_models(), "/health": {"status": "ok"}, **self.pages}
        page = known.get(request.path)
        if page is None:
            words = f"there is no page {request.method} {request.path}"
            return make_json_response(openai_error(words, status=404), status=404)
        return page.answer(request) if isinstance(page, Reply) else make_json_response(page)

    def _list_models(self) -> object:
        card = {"object": "model", "created": 0, "owned_by": self.owned_by}
        return {"object": "list", "data": [{"id": name, **card} for name in self.models]}

    def filter_request(self, request: RecordedRequest) -> RecordedRequest:
        """The request as the model sees it."""
        if not self.drops_tools:
            return request
        return replace(request, body={**request.body, "tools": []})

    def is_unscripted_probe(self, request: RecordedRequest) -> bool:
        """Whether the request is a probe, and no turn of a conversation."""
        return self.answers_probes and request.is_probe

    def refuse(self, request: RecordedRequest) -> FakeResponse | None:
        """The answer to a chat request that never reaches the model, or None."""
        if fault := _find_fault(request):
            return make_json_response(openai_error(fault, status=400), status=400)
        if self.refuses_tools and request.tools:
            return make_json_response(no_tools_error(), status=400)
        seen = self.filter_request(request)
        if self.context is not None and seen.prompt_tokens > self.context:
            return OverflowReply(self.like, self.context).answer(seen)
        return None


def _find_fault(request: RecordedRequest) -> str | None:
    kind = request.headers.get("content-type", "nothing")
    if not kind.startswith("application/json"):
        return f"the Content-Type must be application/json, not {kind}"
    if not isinstance(request.body.get("messages"), list):
        return "the body must be a JSON object with a list of messages"
    return None
