"""`bench` on LMDeploy's real HTTP application: what it counts, not how fast that is."""

import pytest
import reference_format as reference
from stand import Reply, Stand

from agentcall.diagnostics.bench import BenchScope, BenchServer, BenchTarget, measure
from agentcall.models.http import HTTPEndpoint

CALL = "I look." + reference.call("price", {"item": "apple"})
SCOPE = BenchScope((1, 4), each=2, tokens=24, seconds=60.0)


def shopkeeper(stand: Stand) -> None:
    """It counts when told to, looks prices up, and says that much of a prompt was cached."""
    stand.script(
        [
            Reply("one two three four five six seven", match="Write the numbers", repeat=True),
            Reply("It is 3.", match="environment", cached_tokens=20, repeat=True),
            Reply(CALL, repeat=True),
        ]
    )


@pytest.mark.parametrize("name", ["stock", "tools_template", "old"])
async def test_streams_and_agents_are_counted(name: str, request: pytest.FixtureRequest) -> None:
    stand: Stand = request.getfixturevalue(name)
    shopkeeper(stand)
    report = await measure(BenchTarget((BenchServer(HTTPEndpoint(stand.url)),)), SCOPE)
    counts = [(level.streams.answers, level.agents.runs) for level in report.levels]
    assert counts == [(2, 2), (8, 8)]
    for level in report.levels:
        assert level.streams.rest.failed == level.agents.rest.failed == 0
        assert level.streams.first_token is not None
        assert 0 < level.streams.first_token.median <= level.streams.seconds
        assert level.streams.tokens <= 24 * level.streams.answers
        assert level.agents.called == level.agents.runs
        assert level.agents.usage.requests == 2 * level.agents.runs
    asked = [record for record in stand.records() if "Customer" in record.prompt]
    assert len(asked) == 20


async def test_cached_tokens_are_those_that_the_server_tells(stock: Stand, old: Stand) -> None:
    for stand in (stock, old):
        shopkeeper(stand)
    scope = BenchScope((1,), each=1, seconds=60.0)
    new = await measure(BenchTarget((BenchServer(HTTPEndpoint(stock.url)),)), scope)
    assert new.prefix is not None
    assert new.prefix.cached_tokens == 0  # told, and nothing was
    assert new.levels[0].agents.usage.cached_tokens == 20
    past = await measure(BenchTarget((BenchServer(HTTPEndpoint(old.url)),)), scope)
    assert past.prefix is not None
    assert past.prefix.cached_tokens is None  # 0.5.3 does not tell
