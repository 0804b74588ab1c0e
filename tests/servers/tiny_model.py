"""A tiny Llama whose answers are written down, for real servers: no weights are downloaded.

    write_hugging_face(folder)   config, safetensors, tokenizer and chat template
    write_gguf(file)             the same for llama.cpp

Its attention and MLP are zero. The embedding of a token is a unit vector, and the output layer maps
it to the token that follows, so that an answer is a chain of tokens. The chat template ends a
prompt with the token that begins a chain, chosen by the last tag in the user's text and the number
of results since: `[one]` begins one call, and its answer after a result. Servers see an ordinary
model of Qwen's format, which calls tools in `<tool_call>`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAME = "tiny-scripted"
CONTEXT = 4096
"""The trained window in tokens; a character of the prompt is about one token."""

_HEAD = 64
_LOGIT = 1.0  # times the square root of the hidden size, after the norm


def _call(city: str) -> str:
    return f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'


CHAINS: Mapping[str, str] = {
    "text": "Hello from the tiny model.",
    "call_oslo": _call("Oslo"),
    "call_rome": _call("Rome"),
    "call_both": f"{_call('Lima')}\n{_call('Kyiv')}",
    "call_broken": '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"\n</tool_call>',
    "answer_one": "Oslo has 21 C and sun.",
    "answer_all": "Both cities are warm: 21 C each.",
    "json": '{"city": "Oslo", "degrees": 21}',
    "empty": "",
    "long": "la, la, and again ",  # without an end
}
"""The answers by the name of the token that begins them."""


def make_template(*, counts_roles: bool = False) -> str:
    """Return the chat template; with `counts_roles` it refuses what Mistral's templates refuse."""
    names = ("role_check.jinja", "tiny_model.jinja")[0 if counts_roles else 1 :]
    return "".join(Path(__file__).with_name(name).read_text("utf-8") for name in names)


@dataclass(frozen=True)
class Vocabulary:
    """The tokens by number, and the token that follows each one."""

    tokens: list[str] = field(default_factory=list[str])
    special: list[str] = field(default_factory=list[str])
    following: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def size(self) -> int:
        """The number of tokens, rounded up to whole attention heads."""
        return -(-len(self.tokens) // _HEAD) * _HEAD

    def number(self, token: str) -> int:
        return self.tokens.index(token)


def make_vocabulary() -> Vocabulary:
    """Return 256 bytes, the pieces of the chains (each is unique), and the special tokens."""
    alphabet = _map_bytes()
    chains: dict[str, list[str]] = {}
    used = set(alphabet.values())
    for name, text in CHAINS.items():
        chains[name] = _split("".join(alphabet[byte] for byte in text.encode()), used)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|{name}|>" for name in chains)]
    pieces = [piece for chain in chains.values() for piece in chain]
    vocabulary = Vocabulary([*alphabet.values(), *pieces, *special], special)
    end = vocabulary.number("<|im_end|>")
    for name, chain in chains.items():
        numbers = [vocabulary.number(token) for token in (f"<|{name}|>", *chain)]
        last = numbers[1] if name == "long" else end
        vocabulary.following.update(zip(numbers, [*numbers[1:], last], strict=True))
    return vocabulary


def _split(text: str, used: set[str]) -> list[str]:
    """Split a text into pieces of about 4 characters that no other chain has."""
    pieces: list[str] = []
    while text:
        length = next((n for n in range(4, len(text) + 1) if text[:n] not in used), 0)
        if not length:  # the end is that of another chain: join it with what comes before
            text = pieces.pop() + text
            length = len(text)
        elif len(text) - length < 3:
            length = len(text)
        pieces.append(text[:length])
        text = text[length:]
        used.add(pieces[-1])
    return pieces


def _map_bytes() -> dict[int, str]:
    """Return the character of each byte in a byte-level BPE. Source: GPT-2, encoder.py."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {
        **{byte: chr(byte) for byte in shown},
        **{byte: chr(256 + index) for index, byte in enumerate(hidden)},
    }


def make_weights(vocabulary: Vocabulary) -> dict[str, NDArray[np.float32]]:
    """Return the tensors by their names in `transformers`: rows are outputs, float32."""
    size = vocabulary.size
    output = np.zeros((size, size), np.float32)
    end = vocabulary.number("<|im_end|>")
    for number in range(len(vocabulary.tokens)):
        output[vocabulary.following.get(number, end), number] = _LOGIT
    layer = "model.layers.0."
    square, wide = np.zeros((size, size), np.float32), np.zeros((_HEAD, size), np.float32)
    one = np.ones(size, np.float32)
    return {
        "model.embed_tokens.weight": np.eye(size, dtype=np.float32),
        **{f"{layer}self_attn.{name}_proj.weight": square for name in "qkvo"},
        f"{layer}mlp.gate_proj.weight": wide,
        f"{layer}mlp.up_proj.weight": wide,
        f"{layer}mlp.down_proj.weight": np.zeros((size, _HEAD), np.float32),
        f"{layer}input_layernorm.weight": one,
        f"{layer}post_attention_layernorm.weight": one,
        "model.norm.weight": one,
        "lm_head.weight": output,
    }


def write_hugging_face(folder: Path, *, counts_roles: bool = False) -> Path:
    """Write the model as a folder for vLLM, transformers and others; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_vocabulary()
    size = vocabulary.size
    end = vocabulary.number("<|im_end|>")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": size,
        "intermediate_size": _HEAD,
        "num_hidden_layers": 1,
        "num_attention_heads": size // _HEAD,
        "num_key_value_heads": size // _HEAD,
        "head_dim": _HEAD,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vocab_size": size,
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": vocabulary.number("<|endoftext|>"),
    }
    template = make_template(counts_roles=counts_roles)
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }
    files: dict[str, object] = {
        "config.json": config,
        "generation_config.json": {"eos_token_id": end, "pad_token_id": config["pad_token_id"]},
        "tokenizer_config.json": tokenizer_config,
        "tokenizer.json": _make_tokenizer(vocabulary),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    _write_safetensors(folder / "model.safetensors", make_weights(vocabulary))
    return folder


def _make_tokenizer(vocabulary: Vocabulary) -> dict[str, object]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    added = [
        {
            "id": vocabulary.number(token),
            "content": token,
            "special": True,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
        for token in vocabulary.special
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(vocabulary.tokens)},
            "merges": [],
        },
    }


def _write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write a file of the format of https://github.com/huggingface/safetensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor in tensors.items():
        offsets = [start, start := start + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())


_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_NORMAL, _CONTROL = 1, 3


def write_gguf(path: Path, *, counts_roles: bool = False) -> Path:
    """Write the model as a GGUF file for llama.cpp and what is built on it; return it."""
    import gguf

    vocabulary = make_vocabulary()
    size = vocabulary.size
    heads = size // _HEAD
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_HEAD)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(size)
    unused = [f"<|unused{number}|>" for number in range(size - len(vocabulary.tokens))]
    tokens = [*vocabulary.tokens, *unused]
    special = {*vocabulary.special, *unused}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in special else _NORMAL for token in tokens])
    writer.add_token_merges([f"{tokens[0]} {tokens[0]}"])
    writer.add_eos_token_id(vocabulary.number("<|im_end|>"))
    writer.add_pad_token_id(vocabulary.number("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(make_template(counts_roles=counts_roles))
    for name, tensor in make_weights(vocabulary).items():
        stem = name.removesuffix(".weight").removeprefix("model.layers.0.")
        prefix = "blk.0." if ".layers." in name else ""
        writer.add_tensor(f"{prefix}{_GGUF_NAMES[stem]}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
