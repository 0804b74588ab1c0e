"""llama.cpp's HTTP server, as `llama-server` has it, with and without `--jinja`."""

import argparse
import threading
from typing import Any

import xllamacpp  # type: ignore[import-untyped]

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--alias", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--no-jinja", action="store_true")
arguments = parser.parse_args()

params: Any = xllamacpp.CommonParams()
params.model.path, params.model_alias = arguments.model, {arguments.alias}
params.hostnames, params.port = ["127.0.0.1"], arguments.port
params.n_ctx, params.n_parallel = 4096, 1
params.use_jinja, params.ui = not arguments.no_jinja, False
server = xllamacpp.Server(params)
threading.Event().wait()
