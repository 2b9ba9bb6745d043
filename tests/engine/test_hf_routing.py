"""Hooks on routers: agreement with the models' own logits and code, MolmoE's and DeepSeek-VL2's
blocks, images, refusals."""

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from moebook.engine.counts import CountsWriter, read
from moebook.engine.hf import RouterHooks, RoutingError, write_sequence
from moebook.engine.hf.routing import capture_multimodal, split_paths

sys.path.append(str(Path(__file__).parents[1] / "models"))
tiny_moe = importlib.import_module("tiny_moe")  # the random models that tests/models uses

E, K, H = 8, 2, 64
IMAGE = 5  # the placeholder token
RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(6, 128, n) for n in (1, 40, 17)]
TEXT = {
    "vocab_size": 128,
    "hidden_size": H,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 64,
    "moe_intermediate_size": 32,
    "num_experts_per_tok": K,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 4096,
}


def capture_text(model, sequences, path):
    samples = [{"input_ids": torch.as_tensor(ids).long()[None]} for ids in sequences]
    return capture_multimodal(model, None, samples, path)


def counted(ids, experts=E):
    """Counts (E,) of choices (T, K), another way than CountsWriter's."""
    return [int((np.asarray(ids) == e).sum()) for e in range(experts)]


@pytest.mark.parametrize("name", ["olmoe", "mixtral"])
def test_counts_are_those_of_the_models_own_router_logits(name, tmp_path):
    model = tiny_moe.build(name)
    names = capture_text(model, SEQUENCES, tmp_path / "c.npz")
    found = read(tmp_path / "c.npz")
    assert (
        names == ("model.layers.0", "model.layers.1")
        and found.tokens.tolist() == [1, 40, 17]
        and found.top_k == K
    )
    for ids, counts in zip(SEQUENCES, found.counts, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor(ids)[None], output_router_logits=True).router_logits
        assert [counted(layer.softmax(-1).topk(K).indices) for layer in logits] == counts.tolist()


@pytest.mark.parametrize("name", tiny_moe.MODELS)
def test_every_family_counts_tokens_times_k_in_each_moe_layer(name, tmp_path):
    model = tiny_moe.build(name)
    before = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    names = capture_text(model, SEQUENCES, tmp_path / "c.npz")
    found = read(tmp_path / "c.npz")
    assert len(names) == found.counts.shape[1] == len(tiny_moe.experts_of(model))
    assert (found.counts.sum(2) == found.tokens[:, None] * K).all() and found.top_k == K
    assert sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()) == before


def test_a_removed_expert_is_not_counted(tmp_path):
    model, kept = tiny_moe.build("deepseek_v3 groups"), [e for e in range(E) if e != 3]
    with tiny_moe.experts_removed(model, {"model.layers.1.mlp": kept}):
        capture_text(model, SEQUENCES, tmp_path / "c.npz")
    assert read(tmp_path / "c.npz").counts[:, 0, 3].sum() == 0


def test_llama4_routes_by_its_logits(tmp_path):
    small = {**TEXT, "num_local_experts": E, "head_dim": 16, "intermediate_size_mlp": 64}
    config = transformers.AutoConfig.for_model("llama4_text", **small)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    given = []
    hook = model.model.layers[0].feed_forward.router.register_forward_hook(
        lambda m, a, out: given.append(out[0] > 0)
    )
    capture_text(model, SEQUENCES, tmp_path / "c.npz")
    hook.remove()
    assert read(tmp_path / "c.npz").counts[:, 0].tolist() == [
        chosen.sum(0).tolist() for chosen in given
    ]


class MolmoeLike(nn.Module):
    """MolmoE's block: its own norm, a gate Linear, a list of experts, top-k of the softmax."""

    def __init__(self, choose=None):
        super().__init__()
        self.top_k, self.choose = K, choose or (lambda p: p.topk(K).indices)
        self.norm, self.gate = nn.RMSNorm(H), nn.Linear(H, E, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(H, 16), nn.SiLU(), nn.Linear(16, H)) for _ in range(E)
        )

    def forward(self, hidden):
        x = self.norm(hidden).view(-1, H)
        weights = self.gate(x).softmax(-1, torch.float)
        chosen, out = self.choose(weights), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == number)
            out.index_add_(0, token, expert(x[token]) * weights[token, chosen[token, slot], None])
        return out.view(hidden.shape), weights


class IndexGate(nn.Linear):
    """A gate that returns, as DeepSeek-VL2's, indices, weights and a loss; its best expert is never
    its first."""

    def forward(self, x):
        weights, indices = super().forward(x).view(-1, E)[:, 1:].topk(K)
        return indices + 1, weights, None


class DeepseekLike(MolmoeLike):
    def __init__(self):
        super().__init__()
        self.gate = IndexGate(H, E)

    def forward(self, hidden):
        indices, weights, _ = self.gate(hidden)
        x, out = hidden.view(-1, H), torch.zeros(hidden.numel() // H, H)
        for number in indices.unique().tolist():
            token, slot = torch.where(indices == number)
            out.index_add_(0, token, self.experts[number](x[token]) * weights[token, slot, None])
        return out.view(hidden.shape), weights


class RemoteLike(nn.Module):
    """A decoder named as MolmoE's: model.transformer.blocks.N.mlp."""

    def __init__(self, block, **config):
        super().__init__()
        torch.manual_seed(0)
        self.config, self.device = (
            SimpleNamespace(model_type="molmo", **config),
            torch.device("cpu"),
        )
        layers = nn.ModuleList(nn.ModuleDict({"mlp": block()}) for _ in range(3))
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(128, H), "blocks": layers})

    def forward(self, input_ids, use_cache=None):
        assert use_cache is False
        hidden = self.transformer.wte(input_ids)
        for layer in self.transformer.blocks:
            hidden = hidden + layer.mlp(hidden)[0]
        return hidden


@pytest.mark.parametrize("block", [MolmoeLike, DeepseekLike])
def test_blocks_with_a_list_of_experts_count_what_the_experts_were_given(block, tmp_path):
    model, given = RemoteLike(block), np.zeros((3, E), int)
    for layer, e in [(layer, e) for layer in range(3) for e in range(E)]:
        expert = model.transformer.blocks[layer].mlp.experts[e]
        expert.register_forward_hook(
            lambda m, args, out, at=(layer, e): np.add.at(given, at, len(args[0]))
        )
    names = capture_text(model, SEQUENCES, tmp_path / "c.npz")
    found = read(tmp_path / "c.npz")
    assert names == tuple(f"transformer.blocks.{n}" for n in range(3))
    assert (found.counts.sum(0) == given).all() and (
        found.counts.sum(2) == found.tokens[:, None] * K
    ).all()
    assert (found.counts[:, :, 0].sum() == 0) == (block is DeepseekLike)


def test_k_comes_from_the_config_where_the_block_has_none(tmp_path):
    model = RemoteLike(MolmoeLike, moe_top_k=K, top_k=5)  # a config's top_k is for sampling
    for layer in model.transformer.blocks:
        del layer.mlp.top_k
    capture_text(model, SEQUENCES, tmp_path / "c.npz")
    assert read(tmp_path / "c.npz").top_k == K
    del model.config.moe_top_k
    with pytest.raises(
        RoutingError,
        match="returns logits, but neither it, its block nor their config has one of num_exp",
    ):
        capture_text(model, SEQUENCES, tmp_path / "d.npz")


def test_logits_that_are_not_what_chooses_are_refused(tmp_path):
    odd = RemoteLike(lambda: MolmoeLike(lambda p: p.topk(K, largest=False).indices))
    with pytest.raises(
        RoutingError,
        match=r"blocks.0.mlp.gate chooses its experts for \[.*but they were called with",
    ):
        capture_text(odd, SEQUENCES, tmp_path / "c.npz")
    biased, grouped = RemoteLike(MolmoeLike), RemoteLike(MolmoeLike, n_group=2)
    biased.transformer.blocks[1].mlp.e_score_correction_bias = torch.zeros(E)
    for model, told in [(biased, "e_score_correction_bias"), (grouped, "n_group")]:
        with pytest.raises(RoutingError, match=f"its block has {told}"):
            capture_text(model, SEQUENCES, tmp_path / "c.npz")
    assert os.listdir(tmp_path) == []


def test_models_that_cannot_be_hooked_say_why():
    dense = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model("llama", **TEXT)
    )
    with pytest.raises(RoutingError, match="type 'llama' has no MoE layers"):
        RouterHooks(dense)
    with pytest.raises(
        RoutingError, match="type 'jetmoe' cannot be hooked: none has a module named 'experts'"
    ):
        RouterHooks(
            transformers.AutoModelForCausalLM.from_config(
                transformers.AutoConfig.for_model(
                    "jetmoe",
                    **{**TEXT, "num_local_experts": E, "kv_channels": 16, "num_key_value_heads": 2},
                )
            )
        )
    with pytest.raises(RoutingError, match="encoder-decoder"):
        RouterHooks(
            SimpleNamespace(config=SimpleNamespace(model_type="nllb-moe", is_encoder_decoder=True))
        )


def test_batches_are_refused(tmp_path):
    model = tiny_moe.build("olmoe")
    with pytest.raises(RoutingError, match=r"input_ids of shape \(2, 3\); give one sequence"):
        capture_multimodal(
            model, None, [{"input_ids": torch.ones(2, 3).long()}], tmp_path / "c.npz"
        )
    assert os.listdir(tmp_path) == []


def test_hidden_tokens_are_not_counted(tmp_path):
    ids = torch.tensor([[0, 0, 7, 8, 9]])
    samples = [{"input_ids": ids, "attention_mask": (ids > 0).long()}]
    capture_multimodal(tiny_moe.build("mixtral"), None, samples, tmp_path / "c")
    assert (
        read(tmp_path / "c").tokens.tolist() == [3]
        and (read(tmp_path / "c").counts.sum(2) == 3 * K).all()
    )


def test_several_forward_passes_are_one_sequence_until_given(tmp_path):
    model, ids = tiny_moe.build("qwen3_moe"), torch.tensor(SEQUENCES[1])[None]
    with (
        RouterHooks(model) as hooks,
        CountsWriter(tmp_path / "c.npz", hooks.num_layers, hooks.num_experts) as writer,
    ):
        with torch.no_grad():
            cache = model(ids[:, :30]).past_key_values
            model(ids[:, 30:], past_key_values=cache)
        write_sequence(writer, hooks.take())
        with pytest.raises(RoutingError, match="chose no experts"):
            hooks.take()
    capture_text(model, SEQUENCES[1:2], tmp_path / "whole.npz")
    assert (read(tmp_path / "c.npz").counts == read(tmp_path / "whole.npz").counts).all()


def drawing(width, height):
    image = Image.fromarray(
        np.fromfunction(lambda y, x, c: (x * (c + 1) + y) % 256, (height, width, 3)).astype(
            np.uint8
        )
    )
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill="red")
    return image


def tokenizer():
    words = ["<pad>", "<s>", "</s>", "<unk>", ".", "<image>", "what", "is", "this", "red", "shape"]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


@pytest.fixture(scope="module")
def deepseek():
    """A random DeepSeek-OCR-2 (DeepSeek's experts behind a vision tower, global and local views)
    and its processor."""
    from transformers.models.deepseek_ocr2.image_processing_pil_deepseek_ocr2 import (
        DeepseekOcr2ImageProcessorPil,
    )

    torch.manual_seed(0)
    small = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    vision = {
        "sam_config": {
            **small,
            "output_channels": 16,
            "downsample_channels": [16, 32],
            "global_attn_indexes": [],
            "initializer_range": 0.2,
        },
        "encoder_config": {**small, "intermediate_size": 32, "initializer_range": 0.2},
    }
    text = {
        **TEXT,
        "n_routed_experts": E,
        "n_shared_experts": 1,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "num_hidden_layers": 3,
    }
    config = transformers.AutoConfig.for_model(
        "deepseek_ocr2", vision_config=vision, text_config=text, image_token_id=IMAGE
    )
    model = transformers.AutoModelForImageTextToText.from_config(config)
    words = tokenizer()
    return model, transformers.DeepseekOcr2Processor(
        image_processor=DeepseekOcr2ImageProcessorPil(), tokenizer=words
    )


def test_images_through_a_deepseek_moe_are_told_from_text(deepseek, tmp_path):
    model, processor = deepseek
    samples = [
        {"text": "<image> what is this", "images": [drawing(300, 200)]},  # one global view
        {"text": "<image> what red shape is this .", "images": [drawing(900, 450)]},
    ]  # and two tiles
    names = capture_multimodal(model.train(), processor, samples, tmp_path / "c.npz", IMAGE)
    whole, image, text = (
        read(path) for path in (tmp_path / "c.npz", *split_paths(tmp_path / "c.npz"))
    )
    assert (
        names == ("model.language_model.layers.1", "model.language_model.layers.2")
        and model.training
    )
    assert image.tokens.tolist() == [257, 257 + 2 * 144] and text.tokens.tolist() == [3, 6]
    assert (image.counts + text.counts == whole.counts).all()
    assert (whole.counts.sum(2) == whole.tokens[:, None] * K).all()


def test_the_pixels_reach_the_router(deepseek, tmp_path):
    model, processor = deepseek
    found = []
    for image in (drawing(300, 200), Image.new("RGB", (300, 200), "white")):
        sample = dict(processor(text="<image> what", images=[image], return_tensors="pt"))
        capture_multimodal(model, None, [sample], tmp_path / "c.npz", IMAGE)
        found.append(read(split_paths(tmp_path / "c.npz")[0]).counts)
    assert (found[0] != found[1]).any()


def test_images_through_qwen3_vl_moe(tmp_path):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    vision = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": H,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 64,
    }
    text = {
        **TEXT,
        "num_experts": E,
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
    }
    config = transformers.AutoConfig.for_model(
        "qwen3_vl_moe",
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        vision_start_token_id=6,
        vision_end_token_id=7,
    )
    model = transformers.AutoModelForImageTextToText.from_config(config)
    pixels = Qwen2VLImageProcessorPil(patch_size=16, min_pixels=1024, max_pixels=128 * 128)(
        [drawing(96, 64)], return_tensors="pt"
    )
    number = int(pixels["image_grid_thw"].prod()) // 4
    ids = torch.tensor([[6, *[IMAGE] * number, 7, 20, 21]])
    sample = {"input_ids": ids, "mm_token_type_ids": (ids == IMAGE).int(), **pixels}
    capture_multimodal(model, None, [sample], tmp_path / "c.npz", IMAGE)
    image, text = (read(path) for path in split_paths(tmp_path / "c.npz"))
    assert (image.tokens.tolist(), text.tokens.tolist()) == ([number], [4]) and number > 3
    assert (image.counts.sum(2) == number * K).all() and (text.counts.sum(2) == 4 * K).all()


def test_text_and_vision_experts_side_by_side_are_one_layer(tmp_path):
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2}
    text = {
        **TEXT,
        "moe_intermediate_size": [32, 16],
        "moe_num_experts": E,
        "moe_k": K,
        "moe_num_shared_experts": 1,
        "mlp_layer_types": ["dense", "sparse"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 4]},
    }
    config = transformers.AutoConfig.for_model(
        "ernie4_5_vl_moe", text_config=text, vision_config=vision
    )
    model = transformers.Ernie4_5_VLMoeForConditionalGeneration(config)
    ids, kinds = torch.tensor(SEQUENCES[2])[None], torch.tensor([[0] * 5 + [1] * 9 + [0] * 3])
    with (
        RouterHooks(model) as hooks,
        CountsWriter(tmp_path / "c.npz", hooks.num_layers, hooks.num_experts) as writer,
    ):
        with torch.no_grad():
            model.model.language_model(input_ids=ids, moe_mm_token_type_ids=kinds)
        write_sequence(writer, hooks.take())
    found = read(tmp_path / "c.npz")
    assert hooks.names == ("model.language_model.layers.1",) and found.tokens.tolist() == [17]
    assert found.counts[0, 0, :E].sum() == 8 * K and found.counts[0, 0, E:].sum() == 9 * K


REMOTE = """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

class OwnConfig(PretrainedConfig):
    model_type = "own"
    moe_top_k = 2

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(16, 4)
        self.experts = nn.ModuleList([nn.Linear(16, 16) for _ in range(4)])

    def forward(self, x):
        chosen, out = self.gate(x).softmax(-1).topk(2).indices, torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token = (chosen == number).any(-1)
            out[token] = out[token] + expert(x[token])
        return out

class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.embedding, self.blocks = nn.Embedding(128, 16), nn.ModuleList([Block(), Block()])
        self.post_init()

    def forward(self, input_ids):
        x = self.embedding(input_ids[0])
        for block in self.blocks:
            x = x + block(x)
        return x
"""


def test_a_model_by_its_own_code_is_hooked(tmp_path):
    code = {"__name__": "own"}
    exec(REMOTE, code)
    names = capture_text(code["OwnModel"](code["OwnConfig"]()), SEQUENCES, tmp_path / "c.npz")
    assert names == ("blocks.0", "blocks.1")
    assert (read(tmp_path / "c.npz").counts.sum(2).T == [2, 80, 34]).all()
