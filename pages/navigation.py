"""The order of the pages, and the site's configuration.

A listed page that does not exist is left out; a page that is not listed comes last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from pages.reference import REFERENCE

SECTIONS: Mapping[str, Sequence[str]] = {
    "Start": [
        "index.md",
        "tutorial.md",
        "tools.md",
        "writing_tools.md",
        "workflows.md",
        "testing.md",
    ],
    "Models": [
        "servers.md",
        "lmdeploy.md",
        "launching.md",
        "remote.md",
        "embedded.md",
        "settings.md",
        "memory.md",
        "scaling.md",
    ],
    "Agents": [
        "agents.md",
        "output.md",
        "sessions.md",
        "approval.md",
        "durable.md",
        "batch.md",
        "evals.md",
        "knowledge.md",
        "tool_search.md",
        "skills.md",
        "code_mode.md",
        "stopping.md",
        "safety.md",
    ],
    "Interfaces": [
        "chat.md",
        "web.md",
        "endpoint.md",
        "ag_ui.md",
        "fastapi.md",
        "mcp.md",
        "observability.md",
    ],
    "Benchmarks": ["comparison.md", "performance.md", "robustness.md", "gpu.md"],
    "Architecture": ["architecture.md"],
    "中文": ["zh/tutorial.md", "zh/lmdeploy.md"],
}

_SETTINGS = """\
[project]
site_name = "agentcall"
site_description = "Function-calling agents for people who run their own models"
copyright = "Apache-2.0"
docs_dir = "docs"
site_dir = "site"
use_directory_urls = false
nav = [
%s
]

[project.theme]
font = false
features = ["navigation.sections", "navigation.top", "content.code.copy", "search.highlight"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle = { icon = "lucide/moon", name = "Dark" }

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle = { icon = "lucide/sun", name = "Light" }
"""


def configuration(pages: Sequence[str]) -> str:
    """Return the text of zensical.toml for these pages, given as paths below docs/."""
    return _SETTINGS % "\n".join(f"  {line}," for line in _list_entries(pages))


def _list_entries(pages: Sequence[str]) -> Iterator[str]:
    listed = [page for section in SECTIONS.values() for page in section]
    others = [page for page in pages if page not in listed]
    reference = [f"reference/{module}.md" for module in REFERENCE]
    sections = {**SECTIONS, "More": others}
    for name, section in sections.items():
        existing = [page for page in section if page in pages]
        if existing:
            yield _format_entry(name, existing)
    yield _format_entry("Reference", ["reference/commands.md", *reference])


def _format_entry(name: str, pages: Sequence[str]) -> str:
    paths = ", ".join(json.dumps(page, ensure_ascii=False) for page in pages)
    return f"{{ {json.dumps(name, ensure_ascii=False)} = [{paths}] }}"
