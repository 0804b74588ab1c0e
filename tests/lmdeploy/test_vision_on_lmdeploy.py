"""Images through LMDeploy's real HTTP application: InternVL2, and models that do not see.

Covered for 0.18.0: request models, loading, the prompt, the tokens and the pixels of an image. Not
covered: cutting large images into tiles, which needs torchvision, and the vision model itself. Of
0.5.3, whose server loads the vision model's weights before it starts, the code between is driven.
"""

import json
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from fleet import AGENTCALL
from installation import python_with
from launch import STANDIN
from stand import Picture, Reply, Stand

from agentcall.agent import Agent
from agentcall.errors import ModelRefused, UsageError
from agentcall.messages import Image, Text, User, to_json
from agentcall.models.http_chat import HTTPChat
from agentcall.tools.tool import tool

SIZE = (90, 40)
TOKENS = 256
SEEN = Picture(SIZE, TOKENS, (1, 3, 448, 448))


def png(width: int, height: int) -> bytes:
    """A red PNG (RFC 2083)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + b"\xff\0\0" * width) * height))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(png(*SIZE))
    return path


def asked(stand: Stand) -> list[tuple[str, tuple[Picture, ...]]]:
    """The prompts without probes, an image's tokens as one word, and the images."""
    return [
        (record.prompt.replace("<IMG_CONTEXT>" * TOKENS, "IMAGE"), record.images)
        for record in stand.records()
        if not record.is_probe
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_image_reaches_the_model(seeing: Stand, red: Path, *, stream: bool) -> None:
    seeing.script(["It is red."])
    agent = Agent(seeing.url)
    prompt = [Image.file(red), "What colour?"]
    if stream:
        events = [event async for event in agent.run_stream(prompt)]
        assert events[-1].result.output == "It is red."  # type: ignore[union-attr]
    else:
        assert (await agent.run(prompt)).output == "It is red."
    ((said, images),) = asked(seeing)
    assert "<|im_start|>user\n<img>IMAGE</img>\nWhat colour?<|im_end|>" in said
    assert images == (SEEN,)


async def test_an_image_stays_in_the_conversation_with_tools(seeing: Stand, red: Path) -> None:
    @tool
    def price(colour: str) -> int:
        """The price of a colour."""
        return 7

    call = '{"name": "price", "arguments": {"colour": "red"}}'
    seeing.script([call, '{"answer": "Seven."}'])
    result = await Agent(seeing.url, tools=[price]).run([Image.file(red), "What does it cost?"])
    assert (result.output, len(result.tool_calls)) == ("Seven.", 1)
    prompts = asked(seeing)
    assert [images for _, images in prompts] == [(SEEN,), (SEEN,)]
    assert "price(" in prompts[1][0]


async def test_several_images_keep_their_order(seeing: Stand, red: Path) -> None:
    wide = red.with_name("wide.png")
    wide.write_bytes(png(200, 20))
    await Agent(seeing.url).run(["First", Image.file(red), "second", Image.file(wide), "which?"])
    ((said, images),) = asked(seeing)
    assert [picture.size for picture in images] == [SIZE, (200, 20)]
    assert "First<img>IMAGE</img>\nsecond<img>IMAGE</img>\nwhich?" in said


def test_the_command_line_sends_images(seeing: Stand, red: Path) -> None:
    seeing.script(["It is red."])
    words = [str(AGENTCALL), "run", "What colour?", "--image", str(red), "-m", seeing.url]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout == "It is red.\n", done.stderr
    ((_, images),) = asked(seeing)
    assert images == (SEEN,)


async def test_a_web_address_is_fetched_by_the_server_and_a_private_one_refused(
    seeing: Stand,
) -> None:
    with pytest.raises(ModelRefused, match=r"400: URL is blocked .*non-global IP"):
        await Agent(seeing.url).run([Image("http://127.0.0.1:9/x.png"), "?"])


async def test_bytes_that_are_no_image_are_refused(seeing: Stand) -> None:
    with pytest.raises(ModelRefused, match="400"):
        await Agent(seeing.url).run([Image("data:image/png;base64,AAAA"), "?"])


async def test_a_model_that_does_not_see_says_so(stock: Stand, red: Path) -> None:
    blind = Agent(HTTPChat(stock.url, dialect="constrained"))
    with pytest.raises(ModelRefused, match="the model does not accept images: serve one that does"):
        await blind.run([Image.file(red), "?"])


@pytest.mark.parametrize("name", ["stock", "old"])
async def test_internlm_is_sent_no_image(
    name: str, request: pytest.FixtureRequest, red: Path
) -> None:
    stand: Stand = request.getfixturevalue(name)
    with pytest.raises(UsageError, match="reads only text"):
        await Agent(stand.url).run([Image.file(red), "?"])
    assert asked(stand) == []


async def test_0_5_3_writes_an_image_into_the_prompt_of_a_model_that_does_not_see(
    old: Stand, red: Path
) -> None:
    """Why InternLM2.5 is sent none: nobody would notice but by the tokens."""
    old.script([Reply("OK.")])
    await Agent(HTTPChat(old.url, dialect="native")).run([Image.file(red), "?"])
    ((said, _),) = asked(old)
    assert "'image_url': {'url': 'data:image/png;base64," in said


def test_0_5_3_reads_the_images_of_a_model_that_sees(red: Path) -> None:
    content = (Image.file(red), Text("What colour?"))
    python = python_with("0.5.3", print)
    done = subprocess.run(
        [str(python), str(STANDIN / "read_images_053.py")],
        input=json.dumps([to_json(User(content))]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["sizes"] == [list(SIZE)]
    assert "<img><IMAGE></img>\nWhat colour?" in found["prompt"]
