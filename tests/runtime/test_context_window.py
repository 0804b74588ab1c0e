async def test_leaving_a_stream_begins_no_summary() -> None:
    model = ScriptedModel(refuse_above(1_000))
    agent = Agent(model, limits=Limits(context=1_000), compact=Summary(keep=2))
    history = [User(WORDS * 5), Assistant("x")] * 30
    events = agent.run_stream("And?", messages=history)
    async for _ in events:
        break
    await events.aclose()
    assert not model.requests
