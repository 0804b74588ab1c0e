"""`agentcall server`: what a model needs of a GPU, model servers on this machine, proxies."""

from __future__ import annotations

from agentcall.cli.command import make_group, make_lazy_group

_COMMANDS = {
    "plan": (
        "agentcall.cli.server.plan:app",
        "Show what a model needs of a GPU under LMDeploy, and how to start it.",
    ),
    "quantize": (
        "agentcall.cli.server.quantize:app",
        "Quantize a model with `lmdeploy lite`, and check the result.",
    ),
    "start": (
        "agentcall.cli.server.local:start_app",
        "Launch a model on LMDeploy and keep it up; `embedded` runs on the CPU.",
    ),
    "stop": ("agentcall.cli.server.local:stop_app", "Stop a server and its processes."),
    "status": ("agentcall.cli.server.local:status_app", "Show the servers launched here."),
    "logs": ("agentcall.cli.server.local:logs_app", "Show the log of a server."),
    "smoke": (
        "agentcall.cli.doctor:smoke_app",
        "Ask a server a few questions that need tools, and check its answers.",
    ),
    "bench": (
        "agentcall.cli.server.bench:app",
        "Measure a model server: first token, tokens per second, agents, prefix cache.",
    ),
    "proxy": (
        "agentcall.cli.server.proxy:app",
        "Run LMDeploy's request distributor over several servers.",
    ),
    "nodes": (
        "agentcall.cli.server.proxy:nodes_app",
        "List, add and remove the nodes of a running proxy.",
    ),
}


app = make_group(
    "Plan, launch, check and quantize model servers on this machine.", make_lazy_group(_COMMANDS)
)
