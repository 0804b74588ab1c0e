"""`lmdeploy` 0.18.0 with the scripted engine: the same arguments as the real command line.

    STANDIN_CONTROL_PORT=23999 serve.py serve api_server MODEL --backend pytorch ...

Ends when its stdin closes.
"""

import asyncio
from importlib import import_module

import torch
from lmdeploy.messages import EngineOutput, RequestMetrics, ResponseType, ScheduleMetrics
from scripted_engine import answer, run_lmdeploy


class Instance:
    """What the server asks for one generation."""

    def __init__(self, engine):
        self.engine = engine
        self.cancelled = False

    async def async_cancel(self, session_id):
        self.cancelled = True

    async def async_stream_infer(
        self, session_id, input_ids=None, gen_config=None, multimodal=None, **_
    ):
        self.cancelled = False
        stop_ids = gen_config.stop_token_ids or []
        turn = answer(self.engine.tokenizer, input_ids, gen_config, stop_ids)
        turn.record["images"] = [seen(item) for item in multimodal or ()]
        self.engine.active += 1
        try:
            async for status, ids in self.play(turn):
                metrics = RequestMetrics(cached_tokens=turn.reply.cached_tokens)
                logprobs = [{i: -0.1, (i + 1) % 900: -2.5} for i in ids]
                shown = logprobs if gen_config.logprobs and ids else None
                yield EngineOutput(status, ids, req_metrics=metrics, logprobs=shown)
        finally:
            self.engine.active -= 1

    async def play(self, turn):
        """The statuses and token ids of each engine step."""
        steps = turn.steps(stop_id_alone=True)
        for number, ids in enumerate(steps, start=1):
            await asyncio.sleep(turn.reply.delay)
            self.engine.tick += 1
            if self.cancelled:
                turn.record["finish"] = "cancelled"
                yield ResponseType.CANCEL, []
                return
            last = number == len(steps)
            if last and turn.reply.status:
                yield ResponseType[turn.reply.status], []
                return
            yield ResponseType.FINISH if last else ResponseType.SUCCESS, ids


def seen(item):
    """What of an image reaches the engine: its size, its tokens, and its pixels' shape."""
    size, shape = list(item["image_size"]), list(item["pixel_values"].shape)
    return {"size": size, "tokens": item["image_tokens"], "pixels": shape}


class Engine:
    """What the server builds once."""

    def __init__(self, tokenizer, config):
        self.tokenizer = tokenizer
        self.engine_config = config
        self.active = 0
        self.tick = 0

    def create_instance(self, *_, **__):
        return Instance(self)

    def start_loop(self):
        return True

    def close(self):
        pass

    def end_session(self, session_id):
        return True

    def get_schedule_metrics(self):
        return ScheduleMetrics(active_seqs=self.active, scheduler_tick=self.tick)

    async def get_health_status(self):
        return {"alive": True, "message": "", "schedule_metrics": self.get_schedule_metrics()}

    async def sleep(self, level=1):
        pass

    def wakeup(self, tags=None):
        pass


def build(self, model_path=None, backend_config=None, **_):
    """In place of AsyncEngine's builders of a real engine."""
    return Engine(self.tokenizer.model.model, backend_config)


def replace_engine():
    # `lmdeploy.serve` is a function too, so the module cannot be had by attribute
    served = import_module("lmdeploy.serve.core.async_engine").AsyncEngine
    served._build_pytorch = served._build_turbomind = build
    # asked for the default batch size
    torch.cuda.get_device_name = lambda *_, **__: "none"


if __name__ == "__main__":
    replace_engine()
    run_lmdeploy()
