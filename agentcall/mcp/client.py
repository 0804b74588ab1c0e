"""The tools of an MCP server as agentcall tools.

Rules:
1. A server is started when its tools are first needed, and serves all runs of the process.
2. A server that has ended is started again by the next call. The call during which it ended is not
   repeated: its outcome is unknown, and the model is told so.
3. What comes from a server is untrusted content: the results of its tools, its resources and its
   prompts. Its hints about a tool (read-only, idempotent) are believed unless an option overrides
   them.
4. Whatever a server sends has a bound, and beyond it an error that names the server.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from time import monotonic
from typing import Any, TypeVar, cast

from typing_extensions import Self, Unpack

from agentcall.errors import SchemaError, ToolError, UsageError
from agentcall.mcp.calls import CallInProgress, CallTracker
from agentcall.mcp.connection import (
    CALL,
    LIST_TOOLS,
    Client,
    ConnectionReplaced,
    MCPConnection,
    MCPConnectionError,
)
from agentcall.mcp.content import read_contents
from agentcall.mcp.elicitation import Elicit, ElicitationHandler
from agentcall.mcp.listing import list_items
from agentcall.mcp.prompts import (
    GET_PROMPT_METHOD,
    LIST_PROMPTS_METHOD,
    MCPPrompt,
    list_prompts,
    read_prompt_messages,
)
from agentcall.mcp.resources import (
    LIST_RESOURCES_METHOD,
    READ_RESOURCE_METHOD,
    MCPResource,
    check_uri,
    create_resource_tools,
    list_resources,
    read_content_parts,
)
from agentcall.mcp.sampling import Sampling, create_sampling_handler
from agentcall.mcp.transport import import_optional, parse_transport
from agentcall.messages import JSON, Image, Message, Text
from agentcall.runtime.executor import CallPaused
from agentcall.runtime.state import current_run
from agentcall.settings import Limits
from agentcall.tools.registry import LazyToolSource
from agentcall.tools.result import Result
from agentcall.tools.schema.json_schema import ExternalSchema, strip_titles
from agentcall.tools.schema.regex import drop_unchecked_patterns
from agentcall.tools.tool import (
    RunContext,
    Tool,
    ToolOptionArguments,
    ToolOptions,
    tool_from_schema,
)

MAX_DESCRIPTION_LENGTH = 20_000
MAX_RELISTINGS = 20
_RELISTING_SECONDS = 60.0
"""The tools of a server that changes them are listed again `MAX_RELISTINGS` times in this time."""
_DEFAULT_TIMEOUT = 60.0
"""Seconds for a server to start, and to list its tools, if no `timeout` is given."""
_MIN_START_SECONDS = 10.0
"""The smallest time limit for starting a server; a shorter `timeout` is meant for its calls."""
_GRACE_SECONDS = 1.0
_MAX_RESOURCE_CHARS = Limits().result_chars
_log = logging.getLogger("agentcall.mcp")

T = TypeVar("T")


class MCPTools(LazyToolSource):
    """The tools of an MCP server; pass it to `Agent(tools=...)`, or iterate over it.

    server: a command that speaks MCP over its standard input and output, or the URL of a server
        that speaks streamable HTTP.
    prefix: prepended to each tool's name.
    env: environment variables of a command, beside PATH, HOME and a few others.
    headers: HTTP headers of each request to a URL, such as {"Authorization": "Bearer ..."}.
    resources: also offer two tools, `list_resources` and `read_resource`, if the server has
        resources.
    on_elicit: answers the questions that the server asks the user during a call: a function of an
        `MCPQuestion`, async or not, that returns the values, True for yes, or None to decline.
        "approval" lets the run wait for the answer, as for an approval, and makes the call again
        with it. None declines them, with a warning in the log.
    sampling: who answers when the server asks a model during a call: True for the model of the run,
        a model, or a function of a `SamplingRequest`; nobody by default.
    options: the options of `@tool` for all tools of the server, such as `requires_approval`.
        `timeout` also limits how long the server may take to list its tools and, if it is at least
        10 seconds, to start.

    The server is started by the first use. It ends with the process, with `close()`, or at the end
    of a `with` or `async with` block. The first use raises `MCPConnectionError` if the server
    cannot be started or reached, or does not list its tools in time.

    `skipped_tools` has the tools that are not offered, by name, with the reason.
    """

    def __init__(
        self,
        server: str,
        *,
        prefix: str = "",
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        resources: bool = False,
        on_elicit: Elicit = None,
        sampling: Sampling = False,
        **options: Unpack[ToolOptionArguments],
    ) -> None:
        if not isinstance(cast("object", resources), bool):
            raise UsageError(f"MCPTools(resources={resources!r:.100}): it has to be True or False")
        self._timeout = options.get("timeout") or _DEFAULT_TIMEOUT
        transport = parse_transport(server, env, headers)
        self._tracker = CallTracker(is_exclusive=on_elicit is not None or sampling is not False)
        self._elicitation = ElicitationHandler(on_elicit, self._tracker, transport.label)
        self._sampling = create_sampling_handler(sampling, self._tracker, transport.label)
        self._connection = MCPConnection(
            transport, max(self._timeout, _MIN_START_SECONDS), self._create_client_options
        )
        self._prefix = prefix
        self._options = options
        self._offers_resources = resources
        self._built: dict[str, tuple[Any, Tool]] = {}  # by the server's name, with the definition
        self._has_changed = False
        self._relisted_at: deque[float] = deque(maxlen=MAX_RELISTINGS)
        self.skipped_tools: Mapping[str, str] = {}

    def _create_client_options(self) -> dict[str, Any]:  # Any: types of the mcp package
        types = import_optional("mcp_types")
        self._has_changed = True  # a server that is started again may have other tools
        options: dict[str, Any] = {
            "client_info": types.Implementation(name="agentcall", version=version("agentcall")),
            "elicitation_callback": self._elicitation.answer,
            "message_handler": self._handle_notification,
            # Many servers can ask only over the older protocol, in which they send requests.
            "modes": ("legacy", "auto") if self._tracker.is_exclusive else ("auto",),
        }
        if self._sampling is not None:
            options["sampling_callback"] = self._sampling.answer
        return options

    async def _handle_notification(self, message: Any) -> None:  # Any: types of the mcp package
        if isinstance(message, import_optional("mcp_types").ToolListChangedNotification):
            self._has_changed = True

    @cached_property
    def tools(self) -> tuple[Tool, ...]:
        """The tools of the server. The first access lists them, and blocks until it answers."""
        return self._build_tools(
            self._connection.submit(self._list_tools, LIST_TOOLS, self._timeout).result()
        )

    async def wait_until_ready(self, seconds: float | None = None) -> None:
        """Wait until the tools are listed; raise MCPConnectionError after `seconds`.

        They are listed again if the server has said that they changed. If that fails, those of
        before stay.
        """
        if "tools" in vars(self):
            if self._has_changed:
                await self._list_again()
        else:
            task = asyncio.ensure_future(self._load_tools())
            try:
                await asyncio.wait({task}, timeout=seconds)
                if not task.done():
                    raise self._make_error(
                        f"did not answer {LIST_TOOLS} within {seconds:g} seconds"
                    )
                self.tools = task.result()
            finally:
                task.cancel()

    async def _list_again(self) -> None:
        now, label = monotonic(), self._connection.transport.label
        is_full = len(self._relisted_at) == MAX_RELISTINGS
        if is_full and now - self._relisted_at[0] < _RELISTING_SECONDS:
            return
        self._relisted_at.append(now)
        try:
            tools = await self._load_tools()
        except ToolError as error:
            _log.warning("%s: its tools stay as they were: %s", label, error)
            return
        before = {tool.name: tool for tool in self.tools}
        after = {tool.name: tool for tool in tools}
        if tools == self.tools:
            return
        names = [name for name in {**before, **after} if before.get(name) is not after.get(name)]
        _log.info("%s has changed its tools: %s", label, ", ".join(names)[:500])
        if len(self._relisted_at) == MAX_RELISTINGS:
            message = "%s has changed its tools %d times within %g seconds; it is asked less often"
            _log.warning(message, label, MAX_RELISTINGS, monotonic() - self._relisted_at[0])
        self.tools = tools
        self.revision += 1

    async def _load_tools(self) -> tuple[Tool, ...]:
        listed = await asyncio.wrap_future(
            self._connection.submit(self._list_tools, LIST_TOOLS, self._timeout)
        )
        return await asyncio.to_thread(self._build_tools, listed)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)

    def close(self) -> None:
        """Close the connection, and end a server that was started for it."""
        self._connection.close().result()

    def __enter__(self) -> Self:
        _ = self.tools
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.wait_until_ready()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.wrap_future(self._connection.close())

    async def _list_tools(self, client: Any) -> tuple[list[Any], bool]:
        """Return the definitions of the tools, and whether the server has resources."""
        self._has_changed = False  # what changes from now on is listed again
        capabilities, label = client.server_capabilities, self._connection.transport.label
        has_resources = capabilities.resources is not None
        if capabilities.tools is None and (has_resources or capabilities.prompts is not None):
            return [], has_resources
        return await list_items(client.list_tools, "tools", label), has_resources

    # Resources and prompts.

    async def list_resources(self) -> tuple[MCPResource, ...]:
        """Return the resources of the server and its templates of resources; none if it has none.

        Raises MCPConnectionError, as all methods that ask the server.
        """
        return await asyncio.wrap_future(self._submit_list_resources())

    def list_resources_sync(self) -> tuple[MCPResource, ...]:
        """As `list_resources`, from sync code."""
        return self._submit_list_resources().result()

    async def read_resource(
        self, uri: str, *, max_chars: int | None = _MAX_RESOURCE_CHARS
    ) -> list[Text | Image]:
        """Return the texts and images of a resource, as parts of a prompt; they are untrusted.

        A text that is longer than `max_chars` characters loses its middle. Other content is
        described in a line.

        >>> async def summarize(agent, tools):
        ...     return await agent.run(["Summarize this", *await tools.read_resource("file:///a")])
        """
        contents = await asyncio.wrap_future(self._submit_read(check_uri(uri)))
        return read_content_parts(contents, max_chars, untrusted=self._is_untrusted)

    def read_resource_sync(
        self, uri: str, *, max_chars: int | None = _MAX_RESOURCE_CHARS
    ) -> list[Text | Image]:
        """As `read_resource`, from sync code."""
        contents = self._submit_read(check_uri(uri)).result()
        return read_content_parts(contents, max_chars, untrusted=self._is_untrusted)

    async def list_prompts(self) -> tuple[MCPPrompt, ...]:
        """Return the prompts of the server; none if it has none."""
        return await asyncio.wrap_future(self._submit_list_prompts())

    def list_prompts_sync(self) -> tuple[MCPPrompt, ...]:
        """As `list_prompts`, from sync code."""
        return self._submit_list_prompts().result()

    async def get_prompt(self, name: str, /, **arguments: object) -> tuple[Message, ...]:
        """Return the messages of a prompt, for `agent.run(messages=...)`; they are untrusted."""
        messages = await asyncio.wrap_future(self._submit_get_prompt(name, arguments))
        return self._read_messages(messages, name)

    def get_prompt_sync(self, name: str, /, **arguments: object) -> tuple[Message, ...]:
        """As `get_prompt`, from sync code."""
        return self._read_messages(self._submit_get_prompt(name, arguments).result(), name)

    @property
    def label(self) -> str:
        """How messages name the server: the command's first words, or the URL without secrets."""
        return self._connection.transport.label

    async def request_contents(self, uri: str) -> Sequence[Any]:  # Any: types of the mcp package
        """Return the contents of a resource as the server sends them."""
        return await asyncio.wrap_future(self._submit_read(uri))

    @property
    def _is_untrusted(self) -> bool:
        return self._options.get("untrusted", True)

    def _submit_list_resources(self) -> Future[tuple[MCPResource, ...]]:
        return self._submit(
            lambda client: list_resources(client, self.label), LIST_RESOURCES_METHOD
        )

    def _submit_read(self, uri: str) -> Future[Sequence[Any]]:
        async def read(client: Client) -> Sequence[Any]:
            return cast("Sequence[Any]", (await client.read_resource(uri)).contents)

        return self._submit(read, READ_RESOURCE_METHOD)

    def _submit_list_prompts(self) -> Future[tuple[MCPPrompt, ...]]:
        return self._submit(lambda client: list_prompts(client, self.label), LIST_PROMPTS_METHOD)

    def _submit_get_prompt(
        self, name: str, arguments: Mapping[str, object]
    ) -> Future[Sequence[Any]]:
        texts = {key: str(value) for key, value in arguments.items() if value is not None}

        async def get(client: Client) -> Sequence[Any]:
            return cast("Sequence[Any]", (await client.get_prompt(name, texts)).messages)

        return self._submit(get, GET_PROMPT_METHOD)

    def _submit(self, operation: Callable[[Client], Awaitable[T]], method: str) -> Future[T]:
        return self._connection.submit(operation, method, self._timeout)

    def _read_messages(self, messages: Sequence[Any], name: str) -> tuple[Message, ...]:
        return read_prompt_messages(messages, name, self.label, untrusted=self._is_untrusted)

    # Tools.

    def _make_error(self, message: str) -> MCPConnectionError:
        return MCPConnectionError(f"the MCP server {self._connection.transport.label} {message}")

    def _build_tools(self, listing: tuple[Sequence[Any], bool]) -> tuple[Tool, ...]:
        """Return the tools that can be offered. Raise MCPConnectionError if it takes too long."""
        listed, has_resources = listing
        deadline = monotonic() + self._timeout
        tools: dict[str, Tool] = {}
        skipped: dict[str, str] = {}
        for definition in listed:
            if monotonic() > deadline:
                raise self._make_error(
                    f"lists tools that cannot be read within {self._timeout:g} seconds"
                )
            try:
                tool = self._reuse_tool(definition) or self._build_tool(definition)
            except SchemaError as error:
                skipped[definition.name] = str(error)
                continue
            self._built[definition.name] = (definition, tool)
            if tool.name in tools:
                skipped[definition.name] = f"there is a tool {tool.name} already"
            tools.setdefault(tool.name, tool)
        if self._offers_resources and has_resources:
            for tool in self._resource_tools:
                if tool.name in tools:
                    skipped[tool.name] = "the server has a tool of this name, which is offered"
                tools.setdefault(tool.name, tool)
        self.skipped_tools = skipped
        for name, reason in skipped.items():
            _log.warning(
                "%s: the tool %s is skipped: %s", self._connection.transport.label, name, reason
            )
        return tuple(tools.values())

    @cached_property
    def _resource_tools(self) -> Sequence[Tool]:
        return create_resource_tools(self, self._make_name, self._options)

    def _reuse_tool(self, definition: Any) -> Tool | None:
        """Return the tool of an earlier listing, if its definition is the same."""
        known, tool = self._built.get(definition.name, (None, None))
        return tool if known == definition else None

    def _make_name(self, name: str) -> str:
        return re.sub(r"[^\w-]", "_", self._prefix + name, flags=re.ASCII)[:64]

    def _build_tool(self, definition: Any) -> Tool:
        name = self._make_name(definition.name)
        description = definition.description or definition.title or ""
        if len(description) > MAX_DESCRIPTION_LENGTH:
            raise SchemaError(
                f"its description has {len(description)} characters, more than "
                f"{MAX_DESCRIPTION_LENGTH}"
            )
        hints = definition.annotations
        options: ToolOptionArguments = {
            "untrusted": True,
            "read_only": bool(hints and hints.read_only_hint),
            "egress": bool(hints and hints.open_world_hint),
            "idempotent": bool(hints and (hints.idempotent_hint or hints.read_only_hint)),
            **self._options,
        }
        parameters = cast("dict[str, JSON]", definition.input_schema)
        checked, unchecked = drop_unchecked_patterns(parameters, name)
        for keyword, pattern, reason in unchecked:
            message = "%s: a %s of the tool %s is left to the server to check (%s): %.200s"
            _log.warning(message, self._connection.transport.label, keyword, name, reason, pattern)
        tool = tool_from_schema(
            _RemoteTool(
                self._connection, self._tracker, definition.name, ToolOptions(**options).timeout
            ),
            name=name,
            description=description,
            parameters=checked,
            **options,
        )
        schema = replace(cast("ExternalSchema", tool.schema), takes_context=True)
        if unchecked:  # the model still sees the patterns that only the server checks
            schema = replace(schema, parameters=cast("dict[str, JSON]", strip_titles(parameters)))
        return tool.copy_with(schema, replace(tool.options, uses_run=True))

    def __repr__(self) -> str:
        return f"MCPTools({self._connection.transport.label!r})"


@dataclass(frozen=True)
class _RemoteTool:
    """A tool of an MCP server, as a function of its arguments."""

    connection: MCPConnection
    tracker: CallTracker
    name: str
    timeout: float | None

    @property
    def location(self) -> str:
        return f"the MCP server {self.connection.transport.label}"

    async def __call__(
        self, arguments: dict[str, JSON], context: RunContext[Any] | None = None
    ) -> object:
        """Call the tool. Raises ToolError, and CallPaused if a person has to answer a question."""
        context, run = context or RunContext[Any](deps=None), current_run.get()
        answers = [] if run is None else list(run.find_answers(context.tool_call_id))
        call = CallInProgress(self.name, context, run, asyncio.get_running_loop(), answers)

        def carry_out(client: Client) -> Awaitable[Any]:
            return self._carry_out(call, arguments, client)

        # The tool's own deadline comes first in a run, hence the grace period.
        timeout = None if self.timeout is None else self.timeout + _GRACE_SECONDS
        try:
            try:
                result = await asyncio.wrap_future(self.connection.submit(carry_out, CALL, timeout))
            except ConnectionReplaced:
                result = await asyncio.wrap_future(self.connection.submit(carry_out, CALL, timeout))
        except MCPConnectionError as error:
            if call.question is not None and not call.failure:
                raise CallPaused(call.question) from error
            raise
        if call.question is not None:
            raise CallPaused(call.question)
        parts = read_contents(result.content, result.structured_content)
        if result.is_error:
            raise ToolError(*(parts or [f"{self.name} failed without a message"]))
        output = parts[0] if len(parts) == 1 else parts
        structured: object = result.structured_content
        return output if structured is None else Result(output, data=structured)

    async def _carry_out(
        self, call: CallInProgress, arguments: dict[str, JSON], client: Client
    ) -> Any:  # Any: a type of the mcp package
        async with self.tracker.track(call, client):
            if not self.connection.is_current(client):
                raise ConnectionReplaced("the server was started again meanwhile; try again")
            try:
                work = client.call_tool(
                    self.name, arguments, progress_callback=call.report_progress
                )
                return await call.wait_for(work)
            except (asyncio.CancelledError, MCPConnectionError):
                if call.has_asked and self.tracker.makes_single_calls(client):
                    self.connection.close_soon()
                raise
