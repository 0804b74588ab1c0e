"""A program that acts like `lmdeploy` in states that the real one cannot reach in a test.

Its behaviour is a JSON file:

    {"release": "0.18.0", "say": ["..."], "code": 1}       prints lines and exits
    {"release": "0.18.0", "serve": true, "health": {...}}  serves; the file is read for each request

If AGENTCALL_MODEL is the URL of a server, requests are forwarded to it. `written` creates the
program and its file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

BEHIND = os.environ.get("AGENTCALL_MODEL", "")
HELP = Path(__file__).with_name("lmdeploy_help")


def written(folder: Path, **acts: object) -> Path:
    """Create the program in a folder of its own; `acts` is the behaviour of the first run."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "lmdeploy"
    text = f"#!{sys.executable}\nimport runpy, sys\nsys.argv.insert(1, {str(folder / 'acts')!r})\n"
    program.write_text(text + f"runpy.run_path({__file__!r}, run_name='__main__')\n")
    program.chmod(0o755)
    act(program, **acts)
    return program


def act(program: Path, **acts: object) -> None:
    """Set the behaviour of the program from now on."""
    draft = program.with_name("acts.draft")
    draft.write_text(json.dumps({"release": "0.18.0", **acts}))
    draft.replace(program.with_name("acts"))


def main(acts_file: Path, words: list[str]) -> None:
    acts = read(acts_file)
    if "--help" in words:
        print((HELP / f"{acts['release']}.txt").read_text())
        return
    with acts_file.with_name("ran").open("a") as ran:
        ran.write(json.dumps({"words": words, "pid": os.getpid(), "cwd": str(Path.cwd())}) + "\n")
    if "child" in acts:  # a worker process, as LMDeploy has for several GPUs
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        acts_file.with_name("child").write_text(str(child.pid))
    for line in acts.get("say", []):
        print(line, flush=True)
    if "code" in acts:
        sys.stdout.flush()
        os._exit(acts["code"])
    if "hang" in acts:
        time.sleep(600)
    serve(acts_file, words)


def read(file: Path) -> dict[str, Any]:
    acts: dict[str, Any] = json.loads(file.read_text())
    return acts


def serve(acts_file: Path, words: list[str]) -> None:
    options = dict(pairwise(words))
    key = options.get("--api-keys", "")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                health = read(acts_file).get("health")
                self._send(503 if health else 200, health)
            elif self.headers.get("Authorization", "") not in ("", f"Bearer {key}"):
                self._send(401, {})
            elif BEHIND:
                self._write(*forward(self.path, None))
            else:
                self._send(200, {"data": [{"id": words[2]}]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self._write(*forward(self.path, body))

        def _send(self, status: int, value: object) -> None:
            body = b"" if value is None else json.dumps(value).encode()
            self._write(status, "application/json", body)

        def _write(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    address = options["--server-name"], int(options["--server-port"])
    ThreadingHTTPServer(address, Handler).serve_forever()


def forward(path: str, body: bytes | None) -> tuple[int, str, bytes]:
    """Return the response of the server in AGENTCALL_MODEL: status, type and body."""
    request = Request(BEHIND + path.removeprefix("/v1"), body)
    request.add_header("content-type", "application/json")
    try:
        with build_opener(ProxyHandler({})).open(request) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except HTTPError as error:
        with error:
            return error.code, "application/json", error.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
