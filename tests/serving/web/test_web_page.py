"""`agentcall web` in a headless Chromium, from the outside: what a person does and sees."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browsing import Stand, Visit, standing
from command_line import agentcall
from playwright.sync_api import expect

from agentcall.testing import call, calls, forever, hang, say, status

Open = Callable[..., Visit]
LONG = " ".join(f"word{number}" for number in range(40))
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_an_answer_streams_and_its_tool_steps_open(visit: Open) -> None:
    chat = visit(call("add", a=3, b=5), say(f"It is **8**. {LONG}").replace(delay=0.05))
    chat.ask("What is 3+5?")
    chat.sees("word1")
    assert "word39" not in chat.page.locator("#chat").inner_text()  # it comes piece by piece
    chat.sees("word39")
    chat.is_idle()
    expect(chat.page.locator("#chat strong").first).to_have_text("8")
    expect(chat.steps).to_have_count(1)
    expect(chat.steps.first).to_contain_text(re.compile(r"✓ add\(a=3, b=5\)[\s\S]*ms"))
    chat.steps.first.locator(".title").click()
    expect(chat.steps.first).to_contain_text('"a": 3')
    expect(chat.steps.first).to_contain_text("Result")
    expect(chat.page.locator("#usage")).to_contain_text("1 tool call")


def test_a_call_is_denied_with_a_reason_and_then_approved(visit: Open) -> None:
    chat = visit(
        call("delete", path="keep.txt"),
        say("Then not."),
        call("delete", path="keep.txt"),
        say("It is gone."),
    )
    kept = chat.cwd / "keep.txt"
    kept.write_text("x")
    chat.ask("Delete it.")
    expect(chat.page.locator("#call")).to_contain_text('delete(path="keep.txt")')
    expect(chat.steps.first).to_contain_text("waits for you")
    chat.page.locator("#reason textarea, #reason input").fill("I need it")
    chat.page.locator("#deny").click()
    chat.sees("Then not.")
    assert "refused this call: I need it" in chat.said[-1]
    assert kept.exists()
    expect(chat.page.locator("#approval")).to_be_hidden()
    chat.ask("Do it all the same.")
    expect(chat.page.locator("#reason textarea, #reason input")).to_have_value("")
    chat.page.locator("#approve").click()
    chat.sees("It is gone.")
    assert not kept.exists()


def test_a_tool_that_is_approved_always_is_not_asked_about_again(visit: Open) -> None:
    chat = visit(
        calls(call("delete", path="a"), call("delete", path="b")),
        say("Both are gone."),
        call("delete", path="c"),
        say("So is that."),
    )
    for name in "abc":
        (chat.cwd / name).touch()
    chat.ask("Delete a and b.")
    expect(chat.page.locator("#call")).to_contain_text('delete(path="a")')
    expect(chat.page.locator("#call")).to_contain_text("1 more waiting")
    chat.page.locator("#always").click()
    chat.sees("Both are gone.")
    chat.ask("And c.")
    chat.sees("So is that.")
    assert not [name for name in "abc" if (chat.cwd / name).exists()]


def test_a_call_still_waits_after_a_reload(visit: Open) -> None:
    chat = visit(call("delete", path="x"), say("Then not."))
    chat.ask("Delete x.")
    expect(chat.page.locator("#approve")).to_be_visible()
    chat.is_idle()
    chat.page.reload()
    expect(chat.page.locator("#call")).to_contain_text('delete(path="x")')
    chat.page.locator("#deny").click()
    chat.sees("Then not.")


def test_an_answer_is_stopped_and_the_conversation_goes_on(visit: Open) -> None:
    chat = visit(hang(say(LONG), after=0.5), say("Here I am."))
    chat.ask("Tell me everything.")
    chat.sees("word3")
    stop = chat.page.locator("#box button.stop-button")
    stop.click()
    chat.is_idle()
    expect(stop).to_have_count(0)
    chat.sees("word3")
    chat.sees("stopped")
    chat.ask("Are you there?")
    chat.sees("Here I am.")
    chat.sees_not("stopped")
    assert "Tell me everything." in chat.said


def test_closing_the_page_stops_what_runs(visit: Open) -> None:
    chat = visit(call("nap", seconds=600), say("no"))
    page = chat.opened()
    chat.ask("Sleep.", page)
    _until((chat.cwd / "napping").exists)
    page.close()
    _until((chat.cwd / "woken").exists)


def test_a_reload_shows_the_same_conversation_and_goes_on_with_it(visit: Open) -> None:
    chat = visit(call("add", a=1, b=2), say("It is 3."), say("You asked for 1+2."))
    chat.ask("What is 1+2?")
    chat.sees("It is 3.")
    chat.is_idle()
    expect(chat.steps.first).not_to_contain_text("Arguments")  # it has closed again
    before = chat.page.locator("#chat").inner_text()
    chat.page.reload()
    chat.sees("It is 3.")
    assert chat.page.locator("#chat").inner_text() == before
    chat.ask("What did I ask?")
    chat.sees("You asked for 1+2.")
    assert "What is 1+2?" in chat.said


def test_conversations_are_listed_and_opened(visit: Open) -> None:
    chat = visit(say("First."), say("Second."), say("Third."))
    chat.ask("One <b>bold</b>")
    chat.sees("First.")
    chat.is_idle()
    chat.page.locator("#new").click()
    chat.sees_not("First.")
    chat.ask("Two")
    chat.sees("Second.")
    chat.is_idle()
    listed = chat.page.locator("#sessions label")
    expect(listed).to_have_text(["Two", "One <b>bold</b>"])
    listed.nth(1).click()
    chat.sees("First.")
    chat.sees_not("Second.")
    chat.ask("Three")
    chat.sees("Third.")
    assert "One <b>bold</b>" in chat.said
    assert "Two" not in chat.said


def test_a_question_is_asked_anew_edited_and_taken_back(visit: Open) -> None:
    chat = visit(say("Blue."), say("Green."), say("Red."), say("Five."))
    box = chat.page.locator("#box textarea")
    chat.ask("Which colour?")
    chat.sees("Blue.")
    chat.is_idle()
    chat.page.locator("#retry").click()
    chat.sees("Green.")
    chat.sees_not("Blue.")
    chat.is_idle()
    chat.page.locator("#edit").click()
    expect(box).to_have_value("Which colour?")
    expect(chat.page.locator("#edit")).to_have_text("Cancel edit")
    box.fill("Which colour now?")
    box.press("Enter")
    chat.sees("Red.")
    chat.sees_not("Green.")
    assert "Which colour now?" in chat.said
    assert "Which colour?" not in chat.said
    chat.is_idle()
    chat.page.locator("#undo").click()
    chat.sees_not("Red.")
    expect(box).to_have_value("Which colour now?")
    chat.ask("How many?")
    chat.sees("Five.")
    assert "Which colour now?" not in chat.said


def test_editing_can_be_cancelled(visit: Open) -> None:
    chat = visit(say("Blue."), say("Round."))
    chat.ask("Which colour?")
    chat.sees("Blue.")
    chat.is_idle()
    chat.page.locator("#edit").click()
    expect(chat.page.locator("#box textarea")).to_have_value("Which colour?")
    chat.page.locator("#edit").click()
    expect(chat.page.locator("#box textarea")).to_have_value("")
    chat.ask("Which form?")
    chat.sees("Round.")
    chat.sees("Blue.")


def test_an_image_is_sent_and_shown(visit: Open) -> None:
    chat = visit(say("A pixel."))
    chat.page.locator("#box input[type=file]").set_input_files(
        {"name": "dot.png", "mimeType": "image/png", "buffer": PIXEL}
    )
    expect(chat.page.locator("#box .thumbnail-item, #box img").first).to_be_visible()
    chat.ask("What is this?")
    chat.sees("A pixel.")
    content: Any = chat.model.requests[-1].body["messages"][-1]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert content[1]["text"] == "What is this?"
    expect(chat.page.locator("#chat img[src^='data:image/png']")).to_be_visible()


def test_what_is_no_image_is_said(visit: Open) -> None:
    chat = visit(say("no"))
    chat.page.locator("#box input[type=file]").set_input_files(
        {"name": "dot.png", "mimeType": "image/png", "buffer": b"no image"}
    )
    expect(chat.page.locator("#box .thumbnail-item, #box img").first).to_be_visible()
    chat.page.locator("#box textarea").press("Enter")
    chat.sees("is not a PNG, JPEG, WebP or GIF")
    assert not chat.model.requests


def test_a_model_server_that_fails_is_told_of_and_the_chat_goes_on(visit: Open) -> None:
    chat = visit(status(401, body="the key is wrong"), say("Here I am."))
    chat.ask("Hello?")
    chat.sees("401")
    chat.is_idle()
    chat.ask("Hello again?")
    chat.sees("Here I am.")
    chat.sees_not("401")


def test_without_keys_the_owners_sessions_are_there(visit: Open, tmp_path: Path) -> None:
    with standing(tmp_path, "--max-requests", "1") as stand:
        chat = visit(say("Hello."), call("add", a=1, b=2), stand=stand)
        chat.ask("Good morning")
        chat.sees("Hello.")
        chat.is_idle()
        chat.ask("What is 1+2?")
        chat.sees("there is no answer (max_requests)")
        chat.is_idle()
        kept = agentcall("sessions", "list", cwd=tmp_path).stdout
    assert "Good morning" in kept
    assert chat.page.url.partition("session=")[2] in kept


def test_a_conversation_is_exported(visit: Open) -> None:
    chat = visit(call("add", a=1, b=2), say("It is 3."))
    expect(chat.page.locator("#export-json")).to_be_disabled()
    chat.ask("What is 1+2?")
    chat.sees("It is 3.")
    chat.is_idle()
    with chat.page.expect_download() as given:
        chat.page.locator("#export-markdown").click()
    assert "It is 3." in Path(given.value.path()).read_text()
    assert given.value.suggested_filename.endswith(".md")
    with chat.page.expect_download() as given:
        chat.page.locator("#export-json").click()
    kept = json.loads(Path(given.value.path()).read_text())
    assert kept["runs"][0]["messages"][0]["content"] == "What is 1+2?"


def test_what_models_tools_and_people_write_is_only_text(visit: Open) -> None:
    evil = (
        "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 1'> "
        "<iframe src='http://evil.example'></iframe> <form action=//evil.example><input></form> "
        "![p](http://evil.example/p.png) [click](javascript:window.hacked=1) "
        "<style>body { display: none }</style> <a href='//evil.example' ping='//evil.example'>x</a>"
    )
    name = "</b><img src=x onerror='window.hacked = 1'>**bold**"
    chat = visit(call(name, a=evil), call("read"), say(f"{evil}\n\n- {evil}\n\n> {evil}"))
    chat.ask(f"{evil} **me**")
    chat.sees("bold")
    chat.is_idle()
    for place in range(chat.steps.count()):
        chat.steps.nth(place).locator(".title").click()
    page = chat.page
    page.wait_for_timeout(500)
    assert page.evaluate("window.hacked") is None
    for made in ("img", "iframe", "form", "input", "style", "script"):
        assert page.locator(f"#chat .message {made}").count() == 0, made
    assert page.locator("#chat [href^='javascript']").count() == 0
    expect(page.locator("#chat .user")).to_contain_text("**me**")
    expect(page.locator("#chat .user")).to_contain_text("<script>window.hacked = 1</script>")


def test_code_keeps_its_angles(visit: Open) -> None:
    chat = visit(say("Use `vector<int>` so:\n\n```cpp\nvector<int> v = f<T>(1 < 2);\n```\n"))
    chat.ask("How?")
    chat.sees("vector<int> v = f<T>(1 < 2);")
    chat.sees("Use vector<int> so")


def test_no_answer_lies_over_the_page(visit: Open) -> None:
    cover = "<a style='position:fixed;inset:0' href='http://evil.example'>click</a>"
    answer = (
        f"| a | b |\n|---|---|\n| `x {cover} | y` |\n\n- `x {cover}\n- {cover} y`\n\n"
        f"```mermaid\ngraph TD\nA[{cover}]-->B\nclick A href 'http://evil.example'\n```\n\n"
        "$$\n\\href{http://evil.example}{x} \\rule{500em}{500em} \\htmlStyle{position:fixed}{x}\n$$"
    )
    chat = visit(call("read"), say(answer), say("Seen."))
    chat.ask("Read it.")
    chat.sees("graph TD")
    expect(chat.page.locator("#chat .katex").first).to_be_attached()
    assert chat.page.locator("#chat .message-content :is(svg, iframe, form, a[style])").count() == 0
    for place in ("#box textarea", "#new", "#retry"):  # nothing lies over what a person clicks
        assert chat.page.locator(place).evaluate(
            "e => { const r = e.getBoundingClientRect();"
            " return e.contains(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2)) }"
        ), place
    chat.ask("Still there?")
    chat.sees("Seen.")


def test_an_answer_looks_as_its_markdown_says_and_is_copied_as_text(visit: Open) -> None:
    chat = visit(
        say("# Head\n\n| a |\n|---|\n| `b` |\n\n```python\nif x:\n    y = '<b>'\n```\n\n$$a_1$$")
    )
    chat.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.ask("Show me.")
    chat.sees("Head")
    chat.is_idle()
    for made in ("h1", "td code", "pre .token.keyword", ".katex"):
        expect(chat.page.locator(f"#chat [data-testid=bot] {made}").first).to_be_visible()
    expect(chat.page.locator("#chat [aria-label*='<']")).to_have_count(0)
    chat.page.locator("#chat .prose pre").hover()
    chat.page.locator("#chat .prose pre > button").click()
    assert chat.page.evaluate("navigator.clipboard.readText()") == "if x:\n    y = '<b>'\n"
    chat.page.locator("#chat .message-buttons-left button").click()
    copied = chat.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("Head\n")
    assert "y = '<b>'" in copied
    assert "<div" not in copied


def test_browsers_are_kept_apart(visit: Open, stand: Stand) -> None:
    chat = visit(say("Hello Ann."), say("Hello Bob."), say("Ann again."))
    key = next(stand.keys)
    ann, bob = chat.page, chat.opened(key)
    assert "token" not in ann.url
    assert key not in bob.url
    chat.ask("I am Ann.", ann)
    chat.sees("Hello Ann.", ann)
    chat.ask("I am Bob.", bob)
    chat.sees("Hello Bob.", bob)
    assert "I am Ann." not in chat.said
    expect(bob.locator("#sessions label")).to_have_text(["I am Bob."])
    chat.is_idle(bob)
    session = ann.url.partition("session=")[2]
    bob.goto(f"{chat.base}/?session={session}")
    expect(bob.locator("#session")).to_contain_text(session)
    assert "Hello Ann." not in bob.locator("#chat").inner_text()
    assert bob.request.get(f"{chat.base}/export?session={session}&as=md").status == 404
    chat.ask("Me again.", ann)
    chat.sees("Ann again.", ann)
    assert "I am Ann." in chat.said
    assert "I am Bob." not in chat.said


def test_many_pages_at_once_get_their_own_answers(visit: Open) -> None:
    chat = visit(forever(say(LONG).replace(delay=0.02)))
    pages = [chat.opened() for _ in range(4)]
    for number, page in enumerate(pages):
        chat.ask(f"I am {number}.", page)
    for number, page in enumerate(pages):
        chat.sees("word39", page)
        text = page.locator("#chat").inner_text()
        assert [n for n in range(4) if f"I am {n}." in text] == [number]


def _until(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never came so"
        time.sleep(0.05)
