"""Parameters of the vision model that a vision-language model carries.

Only InternVL's is computed (InternViT and its projector): the others are refused rather than
guessed, as they take gigabytes.
"""

from __future__ import annotations

from agentcall_server.configuration import Configuration
from agentcall_server.refusals import UnknownShape


def vision_parameters(configuration: Configuration, hidden: int) -> int:
    """Parameters of the vision model and its projector into `hidden`; 0 if there is none.

    Raises UnknownShape.
    """
    vision = configuration.section("vision_config")
    if vision is None:
        return 0
    if configuration.word("model_type") not in ("internvl_chat", "internvl"):
        raise UnknownShape(
            f"{configuration.name}: the vision model of {configuration.word('model_type')!r} is "
            f"not computed here, only InternVL's; leave the vision part out of the estimate by "
            f"giving a config.json of its text_config alone"
        )
    ratio = configuration.number("downsample_ratio", 0.5)
    return _intern_vit(vision) + _projector(vision.positive("hidden_size"), hidden, ratio)


def _intern_vit(vision: Configuration) -> int:
    hidden = vision.positive("hidden_size")
    width = vision.positive("intermediate_size")
    patch = _side(vision, "patch_size")
    positions = (_side(vision, "image_size") // patch) ** 2 + 1
    embeddings = hidden + (3 * patch * patch * hidden + hidden) + positions * hidden
    attention = 3 * hidden * hidden + hidden * hidden + hidden
    if vision.flag("qkv_bias"):
        attention += 3 * hidden
    if vision.flag("qk_normalization"):
        attention += 2 * hidden
    forward = 2 * hidden * width + width + hidden
    norms = 2 * hidden * (1 if vision.word("norm_type") == "rms_norm" else 2)
    scales = 2 * hidden
    layers = vision.positive("num_hidden_layers")
    return embeddings + layers * (attention + forward + norms + scales)


def _projector(vision: int, hidden: int, ratio: float) -> int:
    """A layer norm and two matrices, over pixels shuffled together."""
    joined = int(vision / ratio / ratio)
    return 2 * joined + (joined * hidden + hidden) + (hidden * hidden + hidden)


def _side(vision: Configuration, key: str) -> int:
    """A side in pixels, which newer files give as a pair."""
    value = vision.values.get(key)
    if isinstance(value, list) and value:
        return Configuration({key: value[0]}, vision.name).positive(key)  # pyright: ignore[reportUnknownArgumentType]
    return vision.positive(key)
