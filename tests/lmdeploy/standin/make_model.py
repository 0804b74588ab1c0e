"""Writes a model folder without weights that LMDeploy takes for InternLM2.5-7B-Chat.

    make_model.py FOLDER [--template FILE.jinja] [--vision]

With --vision it is taken for an InternVL2 over that model. Its images are one tile of 448 x 448
each: the published one cuts larger images into several, for which LMDeploy needs torchvision.

The tokenizer is a small byte-level BPE trained here, with InternLM2.5's special tokens at their
real ids and `<s>` added in front of every text. Without --template the chat template is the one
of the published checkpoint, which knows neither `tools` nor `name`.
"""

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PUBLISHED_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ACTION_TOKENS = {
    "<|plugin|>": 92538,
    "<|interpreter|>": 92539,
    "<|action_end|>": 92540,
    "<|action_start|>": 92541,
    "<|im_end|>": 92542,
    "<|im_start|>": 92543,
}
IMAGE_TOKENS = {"<img>": 92544, "</img>": 92545, "<IMG_CONTEXT>": 92546}
PLAIN_TOKENS = {"<unk>": 0, "<s>": 1, "</s>": 2}
CORPUS = [
    'I\'ll add. {"name": "add", "parameters": {"a": 3, "b": 5}} environment system user assistant',
    "Compute (3+5)*2 The answer is 16. get_current_weather location temperature 22 celsius",
    "上海今天的天气是多少度？结果是 16。计算",
]
MODEL_CONFIG = {
    "architectures": ["InternLM2ForCausalLM"],
    "model_type": "internlm2",
    "vocab_size": 92544,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "max_position_embeddings": 32768,
    "bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
VISION_CONFIG = {
    "architectures": ["InternVLChatModel"],
    "model_type": "internvl_chat",
    # of bfloat16 LMDeploy asks the GPU whether it can
    "torch_dtype": "float16",
    "llm_config": MODEL_CONFIG,
    "vision_config": {"model_type": "intern_vit_6b", "image_size": 448, "patch_size": 14},
    "force_image_size": 448,
    "downsample_ratio": 0.5,
    "dynamic_image_size": False,
    "pad_token_id": 2,
}
IMAGE_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "crop_size": 448,
    "size": 448,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
GENERATION_CONFIG = {"bos_token_id": 1, "eos_token_id": [2, 92542], "pad_token_id": 2}


def trained_tokenizer():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(PLAIN_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    return json.loads(tokenizer.to_str())


def special_token(text, number):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, "special": True, **flags}


def begin_of_text():
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, second],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }


def tokenizer_file(special):
    tokenizer = trained_tokenizer()
    vocabulary = tokenizer["model"]["vocab"]
    # filler, so that the special tokens stand at their real ids
    first_special = min(ACTION_TOKENS.values())
    vocabulary |= {f"[UNUSED_TOKEN_{i}]": i for i in range(len(vocabulary), first_special)}
    vocabulary |= special
    tokenizer["added_tokens"] = [
        special_token(text, number) for text, number in {**PLAIN_TOKENS, **special}.items()
    ]
    tokenizer["post_processor"] = begin_of_text()
    # new `tokenizers` write pairs; the one beside LMDeploy 0.5.3 reads only joined strings
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]
    return tokenizer


def tokenizer_config(template, special):
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "</s>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
        "additional_special_tokens": list(special),
        "chat_template": template,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--template", type=Path)
    parser.add_argument("--vision", action="store_true")
    options = parser.parse_args()
    special = {**ACTION_TOKENS, **IMAGE_TOKENS} if options.vision else ACTION_TOKENS
    template = options.template.read_text("utf-8") if options.template else PUBLISHED_TEMPLATE
    files = {
        "config.json": VISION_CONFIG if options.vision else MODEL_CONFIG,
        "generation_config.json": GENERATION_CONFIG,
        "tokenizer.json": tokenizer_file(special),
        "tokenizer_config.json": tokenizer_config(template, special),
    }
    if options.vision:
        files["preprocessor_config.json"] = IMAGE_PROCESSOR
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (options.folder / name).write_text(json.dumps(content, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main()
