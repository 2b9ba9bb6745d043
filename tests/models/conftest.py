import json

import pytest


@pytest.fixture(scope="session")
def meta_model():
    """The transformers model that a Hugging Face config describes, built without memory: of a
    multimodal one the language model, where it has a class of its own."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    built = {}

    def build(config: dict):
        shaping = {k: v for k, v in config.items() if k not in ("auto_map", "quantization_config")}
        key = json.dumps(shaping, sort_keys=True)
        if key not in built:
            built.clear()  # tests ask for one model after another
            built[key] = fresh(json.loads(key))
        return built[key]

    def fresh(config: dict):
        if config["model_type"] not in transformers.CONFIG_MAPPING:
            class_ = getattr(transformers, config["architectures"][0])
            config["model_type"] = class_.config_class.model_type
        parsed = transformers.AutoConfig.for_model(**config)
        with torch.device("meta"):
            if config["model_type"] == "llama4" and "vision_config" in config:
                return transformers.Llama4ForConditionalGeneration(parsed)
            text = parsed.get_text_config(decoder=True)
            if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING:
                return transformers.AutoModelForCausalLM.from_config(text)
            return transformers.AutoModelForImageTextToText.from_config(parsed)

    return build


@pytest.fixture(scope="session")
def meta_parameters(meta_model):
    """Parameters of the transformers model that a Hugging Face config describes; of a multimodal
    one without a language model of its own, all but those of its towers."""

    def count(config: dict) -> int:
        model = meta_model(config)
        every = sum(p.numel() for p in model.parameters())
        language = getattr(getattr(model, "model", None), "language_model", None)
        if language is None or config["model_type"] == "llama4":
            return every
        beside = [m for m in model.model.children() if m is not language]
        return every - sum(p.numel() for m in beside for p in m.parameters())

    return count
