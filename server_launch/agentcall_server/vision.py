"""Parameters of the vision model that a vision-language model carries.

Only InternVL's is computed (InternViT and its projector): the others are refused rather than
guessed, as they take gigabytes.
"""

from __future__ import annotations

from agentcall_server.errors import UnknownArchitecture
from agentcall_server.model_config import ModelConfig


def count_vision_parameters(configuration: ModelConfig, hidden: int) -> int:
    """Parameters of the vision model and its projector into `hidden`; 0 if there is none.

    Raises UnknownShape.
    """
    vision = configuration.get_section("vision_config")
    if vision is None:
        return 0
    if configuration.get_str("model_type") not in ("internvl_chat", "internvl"):
        raise UnknownArchitecture(
            f"{configuration.name}: the vision model of {configuration.get_str('model_type')!r} is "
            f"not computed here, only InternVL's; leave the vision part out of the estimate by "
            f"giving a config.json of its text_config alone"
        )
    ratio = configuration.get_float("downsample_ratio", 0.5)
    return _count_intern_vit(vision) + _count_projector(
        vision.get_positive_int("hidden_size"), hidden, ratio
    )


def _count_intern_vit(vision: ModelConfig) -> int:
    hidden = vision.get_positive_int("hidden_size")
    width = vision.get_positive_int("intermediate_size")
    patch = _read_side(vision, "patch_size")
    positions = (_read_side(vision, "image_size") // patch) ** 2 + 1
    embeddings = hidden + (3 * patch * patch * hidden + hidden) + positions * hidden
    attention = 3 * hidden * hidden + hidden * hidden + hidden
    if vision.get_bool("qkv_bias"):
        attention += 3 * hidden
    if vision.get_bool("qk_normalization"):
        attention += 2 * hidden
    forward = 2 * hidden * width + width + hidden
    norms = 2 * hidden * (1 if vision.get_str("norm_type") == "rms_norm" else 2)
    scales = 2 * hidden
    layers = vision.get_positive_int("num_hidden_layers")
    return embeddings + layers * (attention + forward + norms + scales)


def _count_projector(vision: int, hidden: int, ratio: float) -> int:
    """A layer norm and two matrices, over pixels shuffled together."""
    joined = int(vision / ratio / ratio)
    return 2 * joined + (joined * hidden + hidden) + (hidden * hidden + hidden)


def _read_side(vision: ModelConfig, key: str) -> int:
    """A side in pixels, which newer files give as a pair."""
    value = vision.values.get(key)
    if isinstance(value, list) and value:
        return ModelConfig({key: value[0]}, vision.name).get_positive_int(key)  # pyright: ignore[reportUnknownArgumentType]
    return vision.get_positive_int(key)
