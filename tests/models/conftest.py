import copy

import pytest


@pytest.fixture
def meta_parameters():
    """Parameters of the transformers model that a Hugging Face config describes, built without
    memory."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    def count(config: dict) -> int:
        config = {
            k: v
            for k, v in copy.deepcopy(config).items()
            if k not in ("auto_map", "quantization_config")
        }
        if config["model_type"] not in transformers.CONFIG_MAPPING:
            class_ = getattr(transformers, config["architectures"][0])
            config["model_type"] = class_.config_class.model_type
        parsed = transformers.AutoConfig.for_model(**config)
        with torch.device("meta"):
            if config["model_type"] == "llama4":
                model = transformers.Llama4ForConditionalGeneration(parsed)
            else:
                model = transformers.AutoModelForCausalLM.from_config(parsed)
        return sum(p.numel() for p in model.parameters())

    return count
