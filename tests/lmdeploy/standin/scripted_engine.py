"""What LMDeploy's inference engine would have said, by script, and what it was asked.

Only the object that LMDeploy calls "engine" is replaced. Command line, HTTP application,
validation, sessions, chat template, tokenizer, stop words, detokenizer, tool parsers and the SSE
writer above it are LMDeploy's own.

1. Replies are played first in, first out; one with `match` waits for a prompt that matches.
2. A request for one token is a probe: it is recorded, but takes no reply from the script.
3. With no reply left, the model says `OK.`.
4. A control port on loopback takes replies (POST /script), gives what was recorded
   (GET /records) and forgets both (POST /reset).
"""

import collections
import dataclasses
import json
import os
import re
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

END_OF_TURN = "<|im_end|>"


@dataclass(frozen=True)
class Reply:
    """One scripted reply; the fields are explained in stand.py, which sends them."""

    text: str
    match: str | None = None
    chunk: int = 1
    delay: float = 0.0
    eos: bool = True
    cached_tokens: int = 0
    status: str | None = None
    repeat: bool = False

    def suits(self, prompt):
        return self.match is None or re.search(self.match, prompt, re.DOTALL) is not None


class Script:
    """The replies still to play and the requests so far; shared by engine and control port."""

    def __init__(self):
        self._lock = threading.Lock()
        self._replies = collections.deque()
        self._records = []

    def add(self, replies):
        with self._lock:
            self._replies.extend(replies)

    def reset(self):
        with self._lock:
            self._replies.clear()
            self._records.clear()

    def next_reply(self, prompt):
        with self._lock:
            for index, reply in enumerate(self._replies):
                if reply.suits(prompt):
                    if not reply.repeat:
                        del self._replies[index]
                    return reply
        return Reply("OK.")

    def record(self, entry):
        with self._lock:
            self._records.append(entry)

    def to_json(self):
        with self._lock:
            state = {"records": self._records, "pending": len(self._replies)}
            return json.dumps(state, ensure_ascii=False).encode()


SCRIPT = Script()


@dataclass
class Turn:
    """One answer on its way: the reply, its token ids up to the stop, and the open record."""

    reply: Reply
    ids: list
    record: dict

    def steps(self, *, stop_id_alone):
        """The ids by engine step; 0.18.0 wants the stop id in a step of its own."""
        ids, size = self.ids, max(1, self.reply.chunk)
        tail = []
        if stop_id_alone and self.record["finish"] == "stop" and len(ids) > 1:
            ids, tail = ids[:-1], [ids[-1:]]
        return [ids[i : i + size] for i in range(0, len(ids), size)] + tail


def answer(tokenizer, prompt_ids, config, stop_ids):
    """The turn for these prompt ids; `tokenizer` is the transformers one."""
    prompt = tokenizer.decode(list(prompt_ids), skip_special_tokens=False)
    limit = config.max_new_tokens
    reply = Reply("OK.") if limit == 1 else SCRIPT.next_reply(prompt)
    text = reply.text + (END_OF_TURN if reply.eos else "")
    stops = set() if config.ignore_eos else set(stop_ids)
    ids, finish = cut(tokenizer.encode(text, add_special_tokens=False), limit, stops)
    record = {
        "prompt": prompt,
        "prompt_tokens": len(prompt_ids),
        "reply": reply.text,
        "finish": finish,
        "generation": plain(config),
        "grammar_ok": grammar_allows(tokenizer, config, reply.text),
    }
    SCRIPT.record(record)
    return Turn(reply, ids, record)


def cut(ids, limit, stop_ids):
    """The ids up to and with the first stop id, or up to the limit; and why it ended there."""
    for index, token in enumerate(ids[:limit]):
        if token in stop_ids:
            return ids[: index + 1], "stop"
    return ids[:limit], "length"


def plain(config):
    """A generation config as JSON values."""
    if dataclasses.is_dataclass(config):
        values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    else:
        values = vars(config)
    return json.loads(json.dumps(values, default=str))


def grammar_allows(tokenizer, config, text):
    """Whether guided decoding would have allowed this text: None unless asked for, or an error."""
    response_format = getattr(config, "response_format", None)
    if not response_format:
        return None
    try:
        import xgrammar
        from lmdeploy._guided_decoding import compile_response_format

        vocabulary = xgrammar.TokenizerInfo.from_huggingface(tokenizer)
        grammar = compile_response_format(xgrammar.GrammarCompiler(vocabulary), response_format)
        matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
        return bool(matcher.accept_string(text) and matcher.is_completed())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class Control(BaseHTTPRequestHandler):
    """The control port."""

    def do_GET(self):
        self._send(SCRIPT.to_json())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/reset":
            SCRIPT.reset()
        else:
            SCRIPT.add(Reply(**item) for item in json.loads(body))
        self._send(b"{}")

    def _send(self, body):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def end_with_parent():
    """Ends the process when stdin closes: no server outlives its tests, however these end."""
    sys.stdin.buffer.read()
    os._exit(0)


def run_lmdeploy():
    """LMDeploy's own command line, with the control port beside it."""
    control = ThreadingHTTPServer(("127.0.0.1", int(os.environ["STANDIN_CONTROL_PORT"])), Control)
    threading.Thread(target=control.serve_forever, daemon=True).start()
    threading.Thread(target=end_with_parent, daemon=True).start()
    from lmdeploy.cli.entrypoint import run

    sys.argv[0] = "lmdeploy"
    run()
