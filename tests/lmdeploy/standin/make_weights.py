"""Turns a folder of make_model.py into a small Llama with random weights of 16 bits.

    make_weights.py FOLDER
"""

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
CONFIG = LlamaConfig(
    hidden_size=256,
    intermediate_size=512,
    num_attention_heads=4,
    num_key_value_heads=2,
    num_hidden_layers=2,
    vocab_size=92544,
    max_position_embeddings=512,
    bos_token_id=1,
    eos_token_id=2,
    torch_dtype="float16",
)

if __name__ == "__main__":
    LlamaForCausalLM(CONFIG).half().save_pretrained(sys.argv[1])
