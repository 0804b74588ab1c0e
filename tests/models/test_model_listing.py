from __future__ import annotations

from typing import Any

import pytest
from asking import heard, question
from rows import each_row

from agentcall.errors import ModelError, UnknownModel
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model_listing import ModelListing, is_chat_model, match_model
from agentcall.testing import FakeServer, Reply, forever, say
from agentcall.testing.faults import drop, html, never, status


@each_row(
    "name",
    [
        "nomic-embed-text:latest",
        "text-embedding-3-small",
        "BAAI/bge-m3",
        "intfloat/e5-mistral-7b-instruct",
        "Alibaba-NLP/gte-Qwen2-7B-instruct",
        "Qwen/Qwen3-Embedding-8B",
        "jina-reranker-v2-base-multilingual",
        "sentence-transformers/all-MiniLM-L6-v2",
        "whisper-large-v3-turbo",
        "hexgrad/Kokoro-82M",
        "tts-1-hd",
        "gpt-4o-transcribe",
        "stabilityai/stable-diffusion-3.5-large",
        "black-forest-labs/FLUX.1-schnell",
        "dall-e-3",
        "omni-moderation-latest",
        "internlm2-7b-reward",
    ],
)
def test_a_model_that_does_not_chat_is_known_by_its_name(name: str) -> None:
    assert not is_chat_model({"id": name})


@each_row(
    "name",
    [
        "internlm2_5-7b-chat",
        "meta-llama/Llama-3.3-70B-Instruct",
        "gpt-4o",
        "mistral-small3.1:latest",
        "Qwen/Qwen2.5-Coder-7B-Instruct",
        "google/gemma-3-27b-it",
        "OpenGVLab/InternVL2-8B",
        "deepseek-r1:8b",
        "/models/my-model.gguf",
        "embed-chat-7b",
        "command-r-plus",
        "glm-4-9b",
        "phi4",
    ],
)
def test_a_model_that_chats_is_known_by_its_name(name: str) -> None:
    assert is_chat_model({"id": name})


@each_row(
    ("card", "chats"),
    [
        ({"type": "embeddings"}, False),
        ({"type": "llm"}, True),
        ({"type": "vlm"}, True),
        ({"type": "model"}, True),
        ({"model_type": "rerank"}, False),
        ({"model_type": "LLM", "model_ability": ["generate", "chat"]}, True),
        ({"type": "image"}, False),
        ({"mode": "image_generation"}, False),
        ({"pipeline_tag": "image-text-to-text"}, True),
        ({"task": "text-generation"}, True),
        ({"capabilities": ["embed"]}, False),
        ({"capabilities": {"completion_chat": False, "vision": False}}, False),
        ({"capabilities": {"completion_chat": True}}, True),
        ({"architecture": {"output_modalities": ["image"]}}, False),
        ({"architecture": {"output_modalities": ["text", "image"]}}, True),
        ({"supports_chat": False}, False),
        ({"active": False}, False),
        ({"type": 3, "capabilities": "chat"}, True),
    ],
)
def test_a_card_says_whether_its_model_chats(card: dict[str, Any], chats: bool) -> None:
    assert is_chat_model({"id": "some-model", **card}) == chats


async def test_without_a_name_the_first_model_that_chats_is_used() -> None:
    models = ("nomic-embed-text:latest", "whisper-1", "qwen2.5:7b", "llama3.2:3b")
    with FakeServer([forever(say("hi"))], models=models) as server:
        await heard(HTTPChat(server.url).ask(question()))
        assert server.requests[-1].body["model"] == "qwen2.5:7b"


def test_a_server_without_a_model_that_chats_says_so() -> None:
    listing = ModelListing(({"id": "bge-m3"}, {"id": "whisper-1"}))
    with pytest.raises(UnknownModel, match=r"no model that chats, only bge-m3, whisper-1.*#bge-m3"):
        match_model(None, listing, "http://h/v1")


@each_row(
    ("wanted", "listed", "is_same"),
    [
        ("some-7b", "some-7b", True),
        ("some-7b", "org/some-7b", True),
        ("org/some-7b", "some-7b", True),
        ("Org/Some-7B", "org/some-7b", True),
        ("org/some-7b", "openrouter/org/some-7b", True),
        ("org/some-7b", "/data/models/some-7b", True),
        ("org/some-7b", "./some-7b/", True),
        ("/elsewhere/some-7b", "org/some-7b", True),
        ("llama3", "llama3:latest", True),
        ("openai/gpt-4o", "azure/gpt-4o", False),
        ("openrouter/openai/gpt-4o", "openrouter/azure/gpt-4o", False),
        ("gpt-4", "gpt-4o", False),
        ("7b", "some-7b", False),
        ("llama3:8b", "llama3:70b", False),
    ],
)
def test_a_name_means_the_model_whose_path_ends_in_it(
    wanted: str, listed: str, is_same: bool
) -> None:
    listing = ModelListing(({"id": listed, "owned_by": "vllm"},))
    if is_same:
        assert match_model(wanted, listing, "http://h/v1") == listed
    else:
        with pytest.raises(UnknownModel, match="does not serve"):
            match_model(wanted, listing, "http://h/v1")


@each_row(
    "page",
    [
        status(403, body={"error": {"message": "Missing scopes: api.model.read"}}),
        status(404),
        status(500),
        html(200),
        drop(),
        never(),
        status(200, body=[]),
        status(302, body="", headers={"Location": "https://login.example/"}),
    ],
    ids=["403", "404", "500", "html", "closed", "silent", "empty", "redirect"],
)
async def test_a_list_that_cannot_be_read_does_not_stop_a_model_that_is_named(page: Reply) -> None:
    with FakeServer([forever(say("hi"))], pages={"/v1/models": page}) as server:
        endpoint = HTTPEndpoint(server.url, timeout=3.0)
        assert (await heard(HTTPChat(endpoint, "some-7b").ask(question()))).text == "hi"
        assert server.requests[0].body["model"] == "some-7b"
        with pytest.raises((ModelError, UnknownModel)):
            await heard(HTTPChat(endpoint).ask(question()))


async def test_a_list_that_could_not_be_read_is_asked_for_again() -> None:
    pages: dict[str, object] = {"/v1/models": drop()}
    with FakeServer([forever(say("hi"))], pages=pages) as server:
        await heard(HTTPChat(server.url, "some-7b").ask(question()))
        pages["/v1/models"] = {"data": [{"id": "org/some-7b"}]}
        await heard(HTTPChat(server.url, "some-7b").ask(question()))
        assert server.requests[-1].body["model"] == "org/some-7b"


async def test_a_key_that_is_refused_by_the_list_is_refused() -> None:
    refusing = FakeServer([forever(say("hi"))], pages={"/v1/models": status(401)})
    with refusing as server, pytest.raises(ModelError, match="401"):
        await heard(HTTPChat(server.url, "some-7b").ask(question()))
