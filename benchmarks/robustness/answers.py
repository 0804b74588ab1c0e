"""More scenarios: answers that are cut, broken, empty, or in another framing.

The call of the first answer differs from the call of the second, so that an execution of an
incomplete call is detected.
"""

from __future__ import annotations

from agentcall.testing import (
    MISSING,
    call,
    choices,
    cut,
    empty_body,
    error_in_stream,
    error_under_200,
    html,
    ignore_stream,
    no_done,
    null_choices,
    reset,
    say,
    sse,
    status,
)
from agentcall.testing.faults import flat_error
from benchmarks.robustness.base import RIGHT, make_adding_scenario
from benchmarks.robustness.scenario import once

UNFINISHED = call("add", a=1, b=1)

ANSWERS = (
    make_adding_scenario(
        "a stream that is cut once",
        "no end, no [DONE]: its call does not run (plain: half of the JSON)",
        once(cut(UNFINISHED), RIGHT),
        3,
    ),
    make_adding_scenario(
        "finish_reason length with a call",
        "the call may be cut: it does not run",
        once(UNFINISHED.replace(finish_reason="length"), RIGHT),
        3,
    ),
    make_adding_scenario(
        "an error inside a stream once",
        "asked again (plain: HTTP 500)",
        once(error_in_stream(UNFINISHED), RIGHT),
        3,
    ),
    make_adding_scenario(
        "an error under HTTP 200 once",
        "LMDeploy 0.5: no completion, asked again",
        once(error_under_200("Internal server error", code=500), RIGHT),
        3,
    ),
    make_adding_scenario(
        "a flat error with HTTP 500 once",
        "LMDeploy 0.18: no `error` around it, asked again",
        once(status(500, body=flat_error("Internal server error", status=500)), RIGHT),
        3,
    ),
    make_adding_scenario(
        "a proxy's HTML page once", "HTTP 502, asked again", once(html(502), RIGHT), 3
    ),
    make_adding_scenario(
        "the connection is reset once", "asked again", once(reset(UNFINISHED, after=0.6), RIGHT), 4
    ),
    make_adding_scenario(
        "429 with Retry-After once",
        "asked again after that time",
        once(status(429, headers={"Retry-After": "0.1"}), RIGHT),
        3,
    ),
    make_adding_scenario(
        "an empty body once", "HTTP 200 and nothing, asked again", once(empty_body(), RIGHT), 3
    ),
    make_adding_scenario(
        "an empty stream once",
        "it ends before it began (plain: an empty body)",
        once(cut(RIGHT, after=0.0), RIGHT),
        3,
    ),
    make_adding_scenario(
        "no choices once", "`choices` is null, asked again", once(null_choices(), RIGHT), 3
    ),
    make_adding_scenario(
        'finish_reason "tool_calls" without a call once',
        "SGLang; asked again",
        once(say("").replace(message={"tool_calls": []}, finish_reason="tool_calls"), RIGHT),
        3,
    ),
    make_adding_scenario(
        "thinking and no answer once",
        "reasoning_content alone is no answer",
        once(say("", thinking="I should add them."), RIGHT),
        3,
    ),
    make_adding_scenario(
        "JSON although a stream was asked for",
        "LMDeploy before 0.7.2 (plain: nothing is wrong)",
        ignore_stream(RIGHT),
    ),
    make_adding_scenario(
        "a stream written otherwise",
        "comments, CR LF, no space, data over several lines (plain: nothing is wrong)",
        sse(RIGHT, "comments", "multiline", "no_space", "crlf"),
    ),
    make_adding_scenario(
        "no [DONE] and no usage", "an answer all the same", no_done(RIGHT.replace(usage=None))
    ),
    make_adding_scenario(
        "several choices",
        "the first one counts",
        choices(RIGHT, UNFINISHED),
    ),
    make_adding_scenario(
        "a wrong role once",
        'role "user": taken as it is, or asked again',
        once(RIGHT.replace(role="user"), RIGHT),
        3,
    ),
    make_adding_scenario(
        "no role, no object, no id",
        "fields that servers forget",
        RIGHT.replace(message={"role": MISSING}, body={"object": MISSING, "id": MISSING}),
    ),
    make_adding_scenario(
        'finish_reason "stop" with a call',
        "it runs (LMDeploy, vLLM with a forced tool)",
        RIGHT.replace(finish_reason="stop"),
    ),
)
