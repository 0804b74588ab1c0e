"""`lmdeploy` 0.5.3 with the scripted engine: the same arguments as the real command line.

    STANDIN_CONTROL_PORT=23998 serve_053.py serve api_server MODEL --backend pytorch ...

`--backend pytorch` is needed: importing turbomind needs CUDA. Ends when its stdin closes.
"""

import asyncio
from importlib import import_module

from lmdeploy.messages import EngineOutput, ResponseType
from lmdeploy.tokenizer import Tokenizer
from scripted_engine import answer, run_lmdeploy
from transformers import PretrainedConfig


class Instance:
    """What the server asks for one generation."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.cancelled = False

    async def async_cancel(self, session_id):
        self.cancelled = True

    async def async_end(self, session_id):
        pass

    def end(self, session_id):
        pass

    async def async_stream_infer(self, session_id, input_ids=None, gen_config=None, **_):
        self.cancelled = False
        # 0.5.3 names stop ids `stop_words`; its turbomind also stops at the tokenizer's eos
        stop_ids = [*(gen_config.stop_words or []), self.tokenizer.eos_token_id]
        turn = answer(self.tokenizer, input_ids, gen_config, stop_ids)
        if turn.record["finish"] == "stop":
            turn.ids = turn.ids[:-1]  # 0.5.3's engine never returns the stop id
        async for status, ids in self.play(turn):
            yield EngineOutput(status, ids, len(ids))

    async def play(self, turn):
        """The statuses and the token ids so far (0.5.3's engine accumulates) of each step."""
        steps = turn.steps(stop_id_alone=False) or [[]]
        so_far = []
        for number, ids in enumerate(steps, start=1):
            await asyncio.sleep(turn.reply.delay)
            if self.cancelled:
                turn.record["finish"] = "cancelled"
                return
            so_far = so_far + ids
            last = number == len(steps)
            if last and turn.reply.status:
                raise RuntimeError("engine failure (scripted)")
            yield ResponseType.FINISH if last else ResponseType.SUCCESS, so_far


class Engine:
    """What the server builds once."""

    def __init__(self, tokenizer, config):
        self.tokenizer = tokenizer
        self.engine_config = config

    def create_instance(self, *_, **__):
        return Instance(self.tokenizer.model.model)


def build(self, model_path, backend_config=None, **_):
    """In place of AsyncEngine's builders of a real engine."""
    self.engine = Engine(Tokenizer(model_path), backend_config)
    self.backend_config = backend_config
    self.hf_tm_cfg = PretrainedConfig.from_pretrained(model_path)


def replace_engine():
    # `lmdeploy.serve` is a function too, so the module cannot be had by attribute
    served = import_module("lmdeploy.serve.async_engine").AsyncEngine
    served._build_pytorch = served._build_turbomind = build


if __name__ == "__main__":
    replace_engine()
    run_lmdeploy()
