"""A program that acts like `lmdeploy` in states that the real one cannot be brought into here.

    with the environment variable FAKE_LMDEPLOY as the path of a JSON file:
    {"release": "0.18.0", "say": ["..."], "code": 1}      says it and ends
    {"release": "0.18.0", "serve": true, "health": {...}} serves; the file is read anew every time

Where the environment names a server as AGENTCALL_MODEL, what it is asked is asked of that one.

`written` makes such a program and the file.
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
    """The program in a folder of its own; `acts` are those of the first run."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "lmdeploy"
    text = f"#!{sys.executable}\nimport runpy, sys\nsys.argv.insert(1, {str(folder / 'acts')!r})\n"
    program.write_text(text + f"runpy.run_path({__file__!r}, run_name='__main__')\n")
    program.chmod(0o755)
    act(program, **acts)
    return program


def act(program: Path, **acts: object) -> None:
    """What the program does from now on."""
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
    if "child" in acts:  # a worker of its own, as LMDeploy has for several GPUs
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
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def serve(acts_file: Path, words: list[str]) -> None:
    named = dict(pairwise(words))
    key = named.get("--api-keys", "")

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                health = read(acts_file).get("health")
                self._send(503 if health else 200, health)
            elif self.headers.get("Authorization", "") not in ("", f"Bearer {key}"):
                self._send(401, {})
            elif BEHIND:
                self._write(*handed_on(self.path, None))
            else:
                self._send(200, {"data": [{"id": words[2]}]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self._write(*handed_on(self.path, body))

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

    address = named["--server-name"], int(named["--server-port"])
    ThreadingHTTPServer(address, Door).serve_forever()


def handed_on(path: str, body: bytes | None) -> tuple[int, str, bytes]:
    """What the server of the environment answers: status, type and body."""
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
