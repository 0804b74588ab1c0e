"""Several servers as one: who is asked, who is set aside, and that nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from asking import heard, question

from agentcall import Agent, tool
from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import (
    ContextOverflow,
    ModelError,
    ModelRefused,
    ModelUnreachable,
    UnknownModel,
    UsageError,
)
from agentcall.messages import Assistant, Message, Transcript, User
from agentcall.models import load_balancer
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.load_balancer import LoadBalancer, PrefixAffinity, hash_prefixes
from agentcall.models.model import ModelRequest
from agentcall.models.resolve import resolve_model
from agentcall.testing import (
    FakeServer,
    Reply,
    ReplyFunction,
    bad_json,
    call,
    cut,
    drop,
    error_in_stream,
    forever,
    hang,
    overflow,
    say,
    status,
)


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_balancer, "PAUSES", (0.01, 0.01))


def node(server: FakeServer, timeout: float = 20.0, dialect: str = "native") -> HTTPChat:
    return HTTPChat(HTTPEndpoint(server.url, tries=1, timeout=timeout), "m", dialect=dialect)


def asked(*messages: Message, stream: bool = False) -> ModelRequest:
    return ModelRequest(Transcript(messages), PromptSpec(), stream=stream)


def served(*servers: FakeServer) -> list[int]:
    return [len(server.requests) for server in servers]


FAULTS: dict[str, Callable[[], Reply]] = {
    "500": lambda: status(500),
    "503": lambda: status(503),
    "429": lambda: status(429),
    "dropped": drop,
    "silent": hang,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_node_that_fails_is_set_aside_and_another_answers(fault: str, stream: bool) -> None:
    broken, sound = FakeServer([forever(FAULTS[fault]())]), FakeServer([forever(say("hi"))])
    with broken, sound:
        both = LoadBalancer(node(broken, timeout=1.0), node(sound))
        for number in range(6):
            answer = await heard(both.ask(asked(User(f"question {number}"), stream=stream)))
            assert answer.text == "hi"
        assert served(broken, sound) in ([0, 6], [1, 6])


async def test_a_node_that_is_not_there_is_set_aside() -> None:
    gone = FakeServer([])
    with gone:
        nowhere = node(gone)
    with FakeServer([forever(say("hi"))]) as sound:
        both = LoadBalancer(nowhere, node(sound))
        for number in range(4):
            assert (await heard(both.ask(asked(User(str(number)))))).text == "hi"
        assert both.nodes[0].cooldown_until > 0 or served(sound) == [4]


async def test_a_stream_cut_before_its_first_part_goes_to_another() -> None:
    broken, sound = FakeServer([forever(cut(say("one two"), after=0.0))]), FakeServer([say("hi")])
    with broken, sound:
        both = LoadBalancer(node(broken), node(sound))
        both.nodes[1].active = 9  # the broken one is asked first
        answer = await heard(both.ask(question(True)))
        assert answer.text == "hi"
        assert served(broken, sound) == [1, 1]


async def test_nothing_is_asked_again_once_a_part_was_given() -> None:
    broken, sound = FakeServer([cut(say("one two three four"), after=0.6)]), FakeServer([])
    with broken, sound:
        both = LoadBalancer(node(broken), node(sound))
        both.nodes[1].active = 9
        answer = await heard(both.ask(question(True)))
        assert answer.finish is None
        assert answer.text
        assert both.nodes[0].cooldown_until > 0
        assert served(broken, sound) == [1, 0]


async def test_a_run_whose_answer_was_cut_goes_on_at_another_node() -> None:
    broken = FakeServer([forever(cut(say("one two three four"), after=0.6))])
    sound = FakeServer([forever(say("one two three four"))])
    with broken, sound:
        both = LoadBalancer(node(broken), node(sound))
        both.nodes[1].active = 9
        agent = Agent(both)
        texts = [event async for event in agent.run_stream("hi")]
        assert texts[-1].result.output == "one two three four"  # type: ignore[union-attr]
        assert served(broken, sound) == [1, 1]


async def test_a_run_that_got_no_completion_meets_another_node() -> None:
    broken, sound = FakeServer([forever(bad_json())]), FakeServer([forever(say("hi"))])
    with broken, sound:
        both = LoadBalancer(node(broken), node(sound))
        both.nodes[1].active = 9
        assert (await Agent(both).run("hi")).output == "hi"
        assert served(broken, sound) == [1, 1]


async def test_an_error_once_the_answer_has_begun_is_raised() -> None:
    with FakeServer([error_in_stream(say("one two three"), after=0.6)]) as broken:
        other = FakeServer([])
        with other:
            both = LoadBalancer(node(broken), node(other))
            both.nodes[1].active = 9
            with pytest.raises(ModelError):
                await heard(both.ask(question(True)))
            assert served(other) == [0]


async def test_what_is_wrong_with_the_request_is_told_at_once() -> None:
    with FakeServer([overflow("vllm"), status(401)]) as one, FakeServer([]) as two:
        both = LoadBalancer(node(one), node(two))
        both.nodes[1].active = 9
        with pytest.raises(ContextOverflow):
            await heard(both.ask(question()))
        with pytest.raises(ModelRefused, match="API key"):
            await heard(both.ask(question()))
        assert served(one, two) == [2, 0]


async def test_where_all_fail_all_are_asked_again_and_then_named() -> None:
    with FakeServer([forever(status(500))]) as one, FakeServer([forever(status(503))]) as two:
        both = LoadBalancer(node(one), node(two))
        with pytest.raises(ModelUnreachable, match=r"none of 2 servers answers: .*50[03].*50[03]"):
            await heard(both.ask(question()))
        assert served(one, two) == [3, 3]


async def test_all_may_come_back_while_a_request_waits() -> None:
    script = [status(503), say("hi")]
    with FakeServer(script) as one, FakeServer([status(503), *script]) as two:
        both = LoadBalancer(node(one), node(two))
        assert (await heard(both.ask(question()))).text == "hi"


async def test_requests_that_fail_together_count_as_one_failure() -> None:
    with FakeServer([forever(status(500))]) as broken, FakeServer([forever(say("hi"))]) as sound:
        both = LoadBalancer(node(broken), node(sound))
        await asyncio.gather(*(heard(both.ask(asked(User(str(n))))) for n in range(20)))
        rest = both.nodes[0].cooldown_until - asyncio.get_running_loop().time()
        assert 0 < rest <= 2.0


async def test_a_server_that_says_when_to_come_back_rests_until_then() -> None:
    busy = status(429, headers={"Retry-After": "30"})
    with FakeServer([forever(busy)]) as one, FakeServer([forever(say("hi"))]) as two:
        both = LoadBalancer(node(one), node(two))
        both.nodes[1].active = 1
        await heard(both.ask(question()))
        assert both.nodes[0].cooldown_until - asyncio.get_running_loop().time() > 25


async def test_the_least_busy_is_asked() -> None:
    with FakeServer([forever(say("hi"))]) as one, FakeServer([forever(say("hi"))]) as two:
        both = LoadBalancer(node(one), node(two))
        both.nodes[0].active = 1
        for number in range(5):
            await heard(both.ask(asked(User(f"question {number}"))))
        assert served(one, two) == [0, 5]


async def test_requests_at_the_same_time_are_shared_out() -> None:
    slow = forever(say("hi").replace(delay=0.3))
    with FakeServer([slow]) as one, FakeServer([slow]) as two:
        both = LoadBalancer(node(one), node(two))
        await asyncio.gather(*(heard(both.ask(asked(User(f"q {n}")))) for n in range(10)))
        assert served(one, two) == [5, 5]
        assert [each.active for each in both.nodes] == [0, 0]


async def test_an_answer_that_is_left_is_no_longer_counted() -> None:
    with FakeServer([forever(hang())]) as one:
        alone = LoadBalancer(node(one))
        task = asyncio.ensure_future(heard(alone.ask(question())))
        while not alone.nodes[0].active:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert alone.nodes[0].active == 0


# --- who has the prefix ---


def counting(results: int) -> ReplyFunction:
    """A model that calls `tick` so many times and then answers."""

    def brain(messages: Sequence[object], tools: Sequence[object]) -> Reply:
        ticks = sum(1 for message in messages if message["role"] == "tool")  # type: ignore[index]
        return call("tick", n=ticks) if ticks < results else say("done")

    return brain


@tool
def tick(n: int) -> int:
    """Count."""
    return n


async def test_a_run_stays_on_the_node_that_has_its_prefix() -> None:
    servers = [FakeServer(brain=counting(4)) for _ in range(3)]
    for server in servers:
        server.start()
    try:
        three = LoadBalancer(*map(node, servers))
        result = await Agent(three, tools=[tick]).run("go")
        assert result.output == "done"
        assert sorted(served(*servers)) == [0, 0, 5]
        home = served(*servers).index(5)
        again = await Agent(three, tools=[tick]).run("and on", messages=result.messages)
        assert again.output == "done"
        assert served(*servers)[home] == 6  # the next run of the conversation too
    finally:
        for server in servers:
            await asyncio.to_thread(server.stop)


async def test_a_run_leaves_a_node_that_is_much_busier() -> None:
    with FakeServer([forever(say("hi"))]) as one, FakeServer([forever(say("hi"))]) as two:
        both = LoadBalancer(node(one), node(two))
        both.nodes[1].active = 1
        first = User("hello")
        await heard(both.ask(asked(first)))
        both.nodes[0].active, both.nodes[1].active = 2, 0
        await heard(both.ask(asked(first, Assistant("hi"), User("more"))))
        assert served(one, two) == [2, 0]  # busier, but not much
        both.nodes[0].active = 3
        await heard(both.ask(asked(first, Assistant("hi"), User("other"))))
        assert served(one, two) == [2, 1]


async def test_a_run_goes_on_elsewhere_when_its_node_dies() -> None:
    one, two = FakeServer(brain=counting(4)), FakeServer(brain=counting(4))
    with two:
        one.start()
        both = LoadBalancer(node(one), node(two))
        both.nodes[1].active = 1

        @tool
        def tick(n: int) -> int:
            """Count, and end the first server on the way."""
            if n == 1:
                one.stop()
            return n

        result = await Agent(both, tools=[tick]).run("go")
        assert result.output == "done"
        assert [call.name for call, _ in result.tool_calls] == ["tick"] * 4
        assert served(two) == [3]


async def test_nodes_may_speak_different_dialects() -> None:
    answer = '{"answer": "constrained"}'
    with FakeServer([forever(status(500))]) as one, FakeServer([forever(say(answer))]) as two:
        both = LoadBalancer(node(one), node(two, dialect="constrained"))
        both.nodes[1].active = 1
        result = await Agent(both, tools=[tick]).run("hi")
        assert result.output == "constrained"
        assert "tools" in one.requests[0].body
        assert "tools" not in two.requests[0].body


def test_the_longest_beginning_counts_and_the_oldest_is_forgotten() -> None:
    prefixes = PrefixAffinity(capacity=2)
    short = hash_prefixes(asked(User("a")))
    long = hash_prefixes(asked(User("a"), Assistant("b"), User("c")))
    assert long[0] == short[-1]
    prefixes.record(0, short)
    prefixes.record(1, long)
    assert prefixes.find_node(long) == 1
    assert prefixes.find_node(hash_prefixes(asked(User("a"), Assistant("x")))) == 0
    assert prefixes.find_node(hash_prefixes(asked(User("z")))) is None
    prefixes.record(1, hash_prefixes(asked(User("z"))))
    assert prefixes.find_node(short) is None


# --- how they are named ---


@pytest.mark.parametrize("names", [list, ",".join, " , ".join])
async def test_a_list_of_urls_is_a_model(names: Callable[[list[str]], list[str] | str]) -> None:
    broken = FakeServer([forever(status(503))], models=("a,b",))
    with broken, FakeServer([forever(say("hi"))]) as sound:
        urls = [f"{broken.url}#a,b", sound.url]
        assert (await Agent(names(urls)).run("hi")).output == "hi"
        assert all(len(server.requests) <= 1 for server in (broken, sound))


async def test_the_environment_may_name_several(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer([forever(say("hi"))]) as one, FakeServer([forever(say("hi"))]) as two:
        monkeypatch.setenv("AGENTCALL_MODEL", f"{one.url},{two.url}")
        assert (await Agent().run("hi")).output == "hi"


def test_models_and_names_may_be_mixed_and_nonsense_is_refused() -> None:
    with FakeServer([]) as one:
        assert isinstance(resolve_model([node(one), "embedded"]), LoadBalancer)
    with pytest.raises(UnknownModel, match="gpt-12"):
        resolve_model(["http://127.0.0.1:1/v1", "gpt-12"])
    with pytest.raises(UsageError, match="at least one"):
        Agent([])
