"""Scores against a direct recomputation, constructed cases of each criterion, and the npz file."""

import copy
import gc

import numpy as np
import pytest

pytest.importorskip("torch")
import tiny_moe
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from moebook.models.architecture import from_config
from moebook.models.pruning import prune_checkpoint
from moebook.models.pruning.calibration import collect, collect_from_folder, collect_from_text
from moebook.models.pruning.checkpoint import CheckpointError, open_checkpoint
from moebook.models.pruning.roles import find
from moebook.models.pruning.saliency import norm_scores

ALL = pytest.mark.parametrize("name", tiny_moe.MODELS)
NAMES = {"frequency", "routed_activation", "channel_frequency", "channel_routed_activation"}


@pytest.fixture
def model():
    """A tiny model that a test may change."""
    return lambda name="mixtral": copy.deepcopy(tiny_moe.build(name))


def _direct(model, ids) -> dict[str, dict[str, np.ndarray]]:
    """The scores from what each MoE block was given, token by token, with the router asked
    again."""
    inputs, found = {}, {}
    blocks = tiny_moe.experts_of(model)
    hooks = [
        block.register_forward_pre_hook(
            lambda m, args, layer=layer: inputs.__setitem__(layer, args[0])
        )
        for layer, block in blocks.items()
    ]
    tiny_moe.logits(model, ids)
    for hook in hooks:
        hook.remove()
    for layer, block in blocks.items():
        with torch.no_grad():
            x = inputs[layer].reshape(-1, 64)
            weights, chosen = tiny_moe.router_of(block)(x)[-2:]
            found[tiny_moe.site(layer)] = _scores(block.experts, x, weights, chosen)
    return found


def _scores(experts, x, weights, chosen) -> dict[str, np.ndarray]:
    e, _, i = experts.down_proj.shape
    routed, above, weighted = [[] for _ in range(e)], [[] for _ in range(e)], [[] for _ in range(e)]
    for token, token_weights, token_experts in zip(x, weights, chosen, strict=True):
        for weight, expert in zip(token_weights.tolist(), token_experts.tolist(), strict=True):
            gate, up = (
                experts.gate_up_proj[expert, :i] @ token,
                experts.gate_up_proj[expert, i:] @ token,
            )
            inner = torch.nn.functional.silu(gate) * up
            routed[expert].append(weight * float((experts.down_proj[expert] @ inner).norm()))
            above[expert].append(np.isin(np.arange(i), np.argsort(inner.abs().numpy())[i // 2 :]))
            weighted[expert].append(
                weight * inner.abs().numpy() * experts.down_proj[expert].norm(dim=0).numpy()
            )

    def mean(lists, empty):
        return np.array([np.mean(rows, axis=0) if rows else empty for rows in lists])

    return {
        "frequency": np.array([len(rows) for rows in routed]) / len(x),
        "routed_activation": mean(routed, 0.0),
        "channel_frequency": mean(above, np.zeros(i)),
        "channel_routed_activation": mean(weighted, np.zeros(i)),
    }


@ALL
def test_calibrated_scores_equal_a_direct_computation(name):
    model, ids = tiny_moe.build(name), tiny_moe.tokens(48)
    scores, direct = collect(model, [ids]), _direct(model, ids)
    assert scores.layers.keys() == direct.keys() and scores.tokens == 48
    for layer, expected in direct.items():
        assert scores.layers[layer].keys() == NAMES
        np.testing.assert_array_equal(scores.layers[layer]["frequency"], expected["frequency"])
        for key in NAMES - {"frequency"}:
            np.testing.assert_allclose(
                scores.layers[layer][key], expected[key], rtol=1e-4, atol=1e-7
            )
        assert scores.layers[layer]["frequency"].sum() == pytest.approx(2)


def test_batches_add_up():
    model, ids = tiny_moe.build("olmoe"), tiny_moe.tokens()
    together, apart = collect(model, [ids]), collect(model, [ids[:1], [], ids[1].tolist()])
    assert together.tokens == apart.tokens == 96
    for layer in together.layers:
        for key in NAMES:
            np.testing.assert_allclose(
                together.layers[layer][key], apart.layers[layer][key], rtol=1e-5, atol=1e-7
            )


def test_what_is_held_does_not_grow_with_the_text():
    held = []

    def batches(count):
        for _ in range(count):
            yield tiny_moe.tokens(32)
            held.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))

    model = tiny_moe.build("mixtral")
    gc.collect()
    gc.freeze()  # what other tests have left, millions of objects, is not looked through
    try:
        collect(model, batches(12))
    finally:
        gc.unfreeze()
    assert max(held[6:]) <= max(held[:6])


def test_the_model_is_left_as_it_was(model):
    given = model().train()
    before = tiny_moe.logits(given, tiny_moe.tokens())
    collect(given, [tiny_moe.tokens()])
    assert given.training and not any(m._forward_pre_hooks for m in given.modules())
    assert torch.equal(before, tiny_moe.logits(given, tiny_moe.tokens()))


@ALL
def test_norms_equal_those_of_the_model(name, tmp_path):
    model = tiny_moe.build(name)
    model.save_pretrained(tmp_path / "published")
    model.save_pretrained(tmp_path / "fused", save_original_format=False)
    for folder in ("published", "fused"):
        checkpoint = open_checkpoint(tmp_path / folder)
        roles = find(checkpoint, from_config(checkpoint.config, folder, ""))
        scores = norm_scores(checkpoint, roles)
        for layer, block in tiny_moe.experts_of(model).items():
            gate_up, down = (
                block.experts.gate_up_proj.detach().double(),
                block.experts.down_proj.detach().double(),
            )
            whole = torch.cat([gate_up.flatten(1), down.flatten(1)], dim=1).norm(dim=1)
            np.testing.assert_allclose(
                scores.layers[tiny_moe.site(layer)]["norm"], whole, rtol=1e-5
            )
            channel = torch.cat([gate_up[5, [7, 64 + 7]].flatten(), down[5, :, 7]]).norm()
            assert scores.layers[tiny_moe.site(layer)]["channel_norm"][5, 7] == pytest.approx(
                float(channel), rel=1e-5
            )


def _pruned(model, tmp_path, criterion, kind="inter", ratio=0.125, ids=None):
    model.save_pretrained(tmp_path / "source")
    scores = (
        collect(model, [tiny_moe.tokens(512) if ids is None else ids])
        if criterion != "norm"
        else None
    )
    report = prune_checkpoint(
        tmp_path / "source",
        tmp_path / "out",
        kind=kind,
        ratio=ratio,
        criterion=criterion,
        scores=scores,
    )
    return report, tiny_moe.load(tmp_path / "out")


def _block(model, layer=1):
    return tiny_moe.experts_of(model)[layer]


@pytest.mark.parametrize("criterion", ["norm", "routed_activation"])
def test_an_expert_of_zeros_goes_first(criterion, model, tmp_path):
    changed = model()
    _block(changed).experts.gate_up_proj.data[5] = 0
    _block(changed).experts.down_proj.data[5] = 0
    report, _ = _pruned(changed, tmp_path, criterion)
    assert report.kept_experts[tiny_moe.site(1)] == [0, 1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("criterion", ["frequency", "routed_activation"])
def test_an_expert_that_no_token_reaches_scores_zero_and_goes_first(criterion, model, tmp_path):
    changed = model("deepseek_v3")
    _block(changed).gate.e_score_correction_bias[3] = -100.0
    scores = collect(changed, [tiny_moe.tokens(512)]).layers[tiny_moe.site(1)]
    assert all(not scores[name][3].any() for name in NAMES)
    report, _ = _pruned(changed, tmp_path, criterion)
    assert report.kept_experts[tiny_moe.site(1)] == [0, 1, 2, 4, 5, 6, 7]


def test_frequency_and_routed_activation_disagree_where_a_rare_expert_is_loud(model, tmp_path):
    changed = model()
    rare = int(
        collect(changed, [tiny_moe.tokens(512)]).layers[tiny_moe.site(1)]["frequency"].argmin()
    )
    _block(changed).experts.down_proj.data[rare] *= 100
    by_count, _ = _pruned(changed, tmp_path / "a", "frequency")
    by_activation, _ = _pruned(changed, tmp_path / "b", "routed_activation")
    assert (
        rare not in by_count.kept_experts[tiny_moe.site(1)]
        and rare in by_activation.kept_experts[tiny_moe.site(1)]
    )


@pytest.mark.parametrize("criterion", ["norm", "frequency", "routed_activation"])
@pytest.mark.parametrize("name", ["olmoe", "deepseek_v2"])
def test_channels_of_zeros_go_first_and_the_model_stays_the_same(name, criterion, model, tmp_path):
    changed, ids = model(name), tiny_moe.tokens(2048)[:, :64]
    for block in tiny_moe.experts_of(changed).values():
        experts = block.experts
        for e in range(8):
            idle = (torch.arange(16) * 3 + e) % 64
            experts.gate_up_proj.data[e, idle] = experts.gate_up_proj.data[e, idle + 64] = 0
            experts.down_proj.data[e][:, idle] = 0
        if hasattr(block, "shared_experts"):
            for matrix in (block.shared_experts.gate_proj, block.shared_experts.up_proj):
                matrix.weight.data[5:37] = 0
            block.shared_experts.down_proj.weight.data[:, 5:37] = 0
    report, pruned = _pruned(changed, tmp_path, criterion, kind="intra", ratio=0.25)
    assert report.ffn_dim_after == 48
    torch.testing.assert_close(
        tiny_moe.logits(pruned, ids), tiny_moe.logits(changed, ids), atol=1e-4, rtol=1e-4
    )


def test_a_folder_gives_the_scores_of_its_model(tmp_path):
    model, ids = tiny_moe.build("qwen2_moe"), tiny_moe.tokens()
    model.save_pretrained(tmp_path / "source")
    scores = collect_from_folder(tmp_path / "source", ids.tolist())
    assert scores.tokens == 96 and list(scores.layers) == [tiny_moe.site(0), tiny_moe.site(1)]
    for layer, by_name in collect(model, [ids]).layers.items():
        for key, values in by_name.items():
            np.testing.assert_allclose(scores.layers[layer][key], values, rtol=1e-5, atol=1e-7)
    report = prune_checkpoint(
        tmp_path / "source",
        tmp_path / "out",
        kind="intra",
        ratio=0.5,
        criterion="routed_activation",
        scores=scores,
    )
    assert report.calibration_tokens == 96


@pytest.mark.parametrize(
    "batches, words",
    [
        ([], "no tokens; give at least one batch"),
        ([[]], "no tokens"),
        ([[1, 128]], "from 1 to 128, but the model's vocabulary has ids 0 to 127"),
        ([[-1]], "from -1 to -1"),
        ([[0.5, 1.0]], "give whole numbers"),
        ([[[[1]]]], r"shape \(1, 1, 1\)"),
    ],
)
def test_token_ids_that_do_not_serve(batches, words):
    with pytest.raises(CheckpointError, match=words):
        collect(tiny_moe.build("mixtral"), batches)
    assert not any(m._forward_pre_hooks for m in tiny_moe.build("mixtral").modules())


def test_models_that_cannot_be_scored(tmp_path):
    dense = Qwen3ForCausalLM(Qwen3Config(**tiny_moe.COMMON, head_dim=16))
    with pytest.raises(
        CheckpointError, match="'qwen3' model have no hooks here.*use criterion norm or random"
    ):
        collect(dense, [[1]])
    with pytest.raises(CheckpointError, match="config.json is missing"):
        collect_from_folder(tmp_path, [[1]])


@pytest.mark.parametrize(
    "content, words",
    [
        (b"caf\xe9", "cannot be read as UTF-8 text"),
        (b"word", "has no tokenizer"),
        (None, "No such"),
    ],
)
def test_texts_that_do_not_serve(content, words, tmp_path):
    tiny_moe.build("mixtral").save_pretrained(tmp_path / "source")
    if content is not None:
        (tmp_path / "text").write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        collect_from_text(tmp_path / "source", tmp_path / "text")
