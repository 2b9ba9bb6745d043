"""Parameters of the vision towers and projectors of multimodal models, by formula."""

from moebook.models.keys import complete


def count(config: dict) -> int:
    """Vision tower, projector and their learned tokens of a config whose model_type is in
    COUNTERS."""
    return COUNTERS[config["model_type"]](config)


def _encoder_layer(width: int, ffn: int) -> int:
    """Attention with biases, a two-matrix MLP with biases, two LayerNorms."""
    attention = 4 * (width * width + width)
    mlp = 2 * width * ffn + ffn + width
    return attention + mlp + 4 * width


def _siglip_with_projector(config: dict) -> int:
    """DeepSeek-VL2: SigLIP so400m/14-384 with its (unused) pooling head, 2x2 patches merged, a
    two-layer projector."""
    v, hidden = config["vision_config"], config["projector_config"]["n_embed"]
    width, ffn, patch = v["width"], int(v["width"] * v["mlp_ratio"]), v["patch_size"]
    patches = (384 // patch) ** 2
    tower = 3 * patch * patch * width + width + patches * width + 2 * width
    tower += v["layers"] * _encoder_layer(width, ffn)
    # A latent query and one norm, in place of two norms.
    pooling_head = _encoder_layer(width, ffn) - width
    projector = 4 * width * hidden + hidden + hidden * hidden + hidden
    newline_and_separator = 2 * hidden
    return tower + pooling_head + projector + newline_and_separator


def _llama4_vision(config: dict) -> int:
    """0 of a config that holds the text part alone."""
    if not config.get("vision_config"):
        return 0
    v = complete(config["vision_config"], "llama4_vision_model")
    hidden = complete(config["text_config"], "llama4_text")["hidden_size"]
    width, patch = v["hidden_size"], v["patch_size"]
    positions = (v["image_size"] // patch) ** 2 + 1
    tower = 3 * patch * patch * width + width + positions * width + 4 * width
    tower += v["num_hidden_layers"] * _encoder_layer(width, v["intermediate_size"])
    adapter = v["projector_input_dim"] * (v["intermediate_size"] + v["projector_output_dim"])
    return tower + adapter + v["vision_output_dim"] * hidden


def _clip_with_connector(config: dict) -> int:
    """Molmo: CLIP ViT-L/14-336, attention pooling over two of its layers, a gated projector
    (approximate)."""
    v, hidden, ffn = config["vision_backbone"], config["d_model"], config["intermediate_size"]
    width, patch, taps = v["image_emb_dim"], v["image_patch_size"], len(config["vit_layers"])
    tower = 3 * patch * patch * width + width + v["image_num_pos"] * width + 2 * width
    tower += v["image_num_layers"] * _encoder_layer(width, v["image_mlp_dim"])
    pooling = 3 * (taps * width * width + width) + width * width + width
    projector = 2 * width * ffn + ffn * hidden
    return tower + pooling + projector + 2 * taps * width


COUNTERS = {
    "deepseek_vl_v2": _siglip_with_projector,
    "llama4": _llama4_vision,
    "molmo": _clip_with_connector,
}
