"""Pruned checkpoints: the masked full model gives the same logits, nothing else changes, memory
stays small."""

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import tiny_moe
import torch
import transformers
from safetensors.torch import load_file, save_file

from moebook.models import catalog, pruning, sizes
from moebook.models.edit import ImpossibleEdit
from moebook.models.pruning import prune_architecture, prune_checkpoint
from moebook.models.pruning.checkpoint import INDEX, CheckpointError, open_checkpoint
from moebook.models.pruning.saliency import Scores
from moebook.models.pruning.target import REPORT

ALL = pytest.mark.parametrize("name", tiny_moe.MODELS)
# Variants of families in test_prune_families.py, where the others are.
VARIANTS = pytest.mark.parametrize(
    "name", ["mixtral", "olmoe renormalised", "deepseek_v2", "deepseek_v3"]
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a tiny model, written once by save_pretrained."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str, **options) -> Path:
        path = root / (name + "".join(f"-{k}" for k in options)).replace(" ", "_")
        if not path.exists():
            tiny_moe.build(name).save_pretrained(path, **options)
            (path / "tokenizer.json").write_text("{}")
        return path

    return folder


@pytest.fixture
def editable(saved, tmp_path):
    """A copy of a tiny model's folder that a test may break."""

    def folder(name: str = "mixtral", **options) -> Path:
        copy_of = tmp_path / "source"
        copy_of.mkdir()
        for path in saved(name, **options).iterdir():
            (copy_of / path.name).write_bytes(path.read_bytes())
        return copy_of

    return folder


def tensors_of(folder: Path) -> dict:
    checkpoint = open_checkpoint(folder)
    return dict(checkpoint.read(checkpoint.tensors))


def same_tensors(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize(
    "kind, ratio, words",
    [
        ("inter", 0, "ratio 0 of 8 experts removes none"),
        ("intra", 0, "ratio 0 of 64 channels removes none"),
        ("inter", 0.0025, "0.0025 is 0.25 %, so the result would be an unchanged copy"),
        ("intra", 0.1, "ratio 0.1 of 64 channels removes none"),
        ("inter", 1, "ratio is 1; give the fraction"),
        ("inter", -0.5, "ratio is -0.5"),
        ("inter", float("nan"), "ratio is nan"),
        ("inter", 0.9, "removes 7 of 8 experts, fewer than the 2 each token uses"),
        ("both", 0.5, "kind is 'both'"),
    ],
)
def test_a_pruning_that_would_change_nothing_or_cannot_be_is_asked_back(
    kind, ratio, words, saved, tmp_path
):
    with pytest.raises(ImpossibleEdit, match=words):
        prune_checkpoint(saved("mixtral"), tmp_path / "out", kind=kind, ratio=ratio)
    assert not list(tmp_path.iterdir())


@VARIANTS
@pytest.mark.parametrize("criterion", ["norm", "random"])
def test_fewer_experts_equal_the_full_model_with_their_routers_masked(
    name, criterion, saved, tmp_path
):
    report = prune_checkpoint(
        saved(name), tmp_path / "out", kind="inter", ratio=0.25, criterion=criterion
    )
    full, ids = tiny_moe.build(name), tiny_moe.tokens()
    assert [len(kept) for kept in report.kept_experts.values()] == [6] * len(
        tiny_moe.experts_of(full)
    )
    pruned = tiny_moe.logits(tiny_moe.load(tmp_path / "out"), ids)
    with tiny_moe.experts_removed(full, report.kept_experts):
        torch.testing.assert_close(pruned, tiny_moe.logits(full, ids), atol=1e-5, rtol=1e-5)
    assert (pruned - tiny_moe.logits(full, ids)).abs().max() > 0.1


def _without_weakest_channels(model, count: int, shared_count: int):
    """A copy of the model with the channels of least norm set to zero in each expert, and in
    DeepSeek's shared ones."""
    masked = copy.deepcopy(model)
    for block in tiny_moe.experts_of(masked).values():
        gate_up, down = block.experts.gate_up_proj.data, block.experts.down_proj.data
        for e in range(len(down)):
            gate, up = gate_up[e].chunk(2)
            norms = gate.square().sum(1) + up.square().sum(1) + down[e].square().sum(0)
            down[e][:, norms.argsort()[:count]] = 0
        if hasattr(block, "shared_experts"):
            mlp = block.shared_experts
            rows = mlp.gate_proj.weight.square() + mlp.up_proj.weight.square()
            norms = rows.sum(1) + mlp.down_proj.weight.square().sum(0)
            mlp.down_proj.weight.data[:, norms.argsort()[:shared_count]] = 0
    return masked


@VARIANTS
def test_narrower_experts_equal_the_full_model_with_their_channels_zeroed(name, saved, tmp_path):
    report = prune_checkpoint(saved(name), tmp_path / "out", kind="intra", ratio=0.5)
    full, ids = tiny_moe.build(name), tiny_moe.tokens()
    assert (report.ffn_dim_before, report.ffn_dim_after, report.kept_experts) == (64, 32, None)
    pruned = tiny_moe.logits(tiny_moe.load(tmp_path / "out"), ids)
    masked = tiny_moe.logits(_without_weakest_channels(full, 32, 64), ids)
    torch.testing.assert_close(pruned, masked, atol=1e-4, rtol=1e-4)
    assert (pruned - tiny_moe.logits(full, ids)).abs().max() > 0.1


@ALL
@pytest.mark.parametrize("kind", ["inter", "intra"])
def test_the_fused_layout_is_pruned_like_the_published_one(name, kind, saved, tmp_path):
    fused = saved(name, save_original_format=False)
    assert any("gate_up_proj" in n for n in open_checkpoint(fused).tensors)
    for source, target in ((saved(name), "one"), (fused, "fused")):
        prune_checkpoint(source, tmp_path / target, kind=kind, ratio=0.25)
    one, other = (tiny_moe.load(tmp_path / t).state_dict() for t in ("one", "fused"))
    assert same_tensors(one, other)


@pytest.mark.parametrize("name", ["qwen2_moe", "deepseek_v2", "deepseek_v3"])
def test_shared_experts_are_untouched_when_experts_go(name, saved, tmp_path):
    prune_checkpoint(saved(name), tmp_path / "out", kind="inter", ratio=0.5)
    old, new = tensors_of(saved(name)), tensors_of(tmp_path / "out")
    others = [n for n in old if ".experts." not in n and ".gate." not in n]
    assert [n for n in others if "shared_expert" in n]
    assert all(torch.equal(old[n], new[n]) for n in others)


def test_qwens_shared_expert_keeps_its_width_and_deepseeks_follows_aloud(saved, tmp_path):
    qwen = prune_checkpoint(saved("qwen2_moe"), tmp_path / "q", kind="intra", ratio=0.5)
    old, new = tensors_of(saved("qwen2_moe")), tensors_of(tmp_path / "q")
    assert (
        all(torch.equal(old[n], new[n]) for n in old if "shared_expert" in n) and qwen.notes == []
    )
    deepseek = prune_checkpoint(saved("deepseek_v2"), tmp_path / "d", kind="intra", ratio=0.5)
    assert "mlp.shared_experts of 1 layers as wide as experts: 128 became 64" in deepseek.notes[0]


def test_router_groups_lose_the_same_number_of_experts(saved, tmp_path):
    scores = Scores(
        {tiny_moe.site(1): {"frequency": np.array([0, 0, 0, 0, 1, 1, 1, 1.0])}}, tokens=8
    )
    report = prune_checkpoint(
        saved("deepseek_v3 groups"),
        tmp_path / "out",
        kind="inter",
        ratio=0.5,
        criterion="frequency",
        scores=scores,
    )
    assert (
        report.kept_experts == {tiny_moe.site(1): [2, 3, 6, 7]} and report.calibration_tokens == 8
    )


def test_kept_experts_are_renumbered_in_their_old_order(saved, tmp_path):
    scores = Scores(
        {tiny_moe.site(n): {"frequency": np.array([9, 0, 8, 1, 7, 2, 6, 3.0])} for n in (0, 1)},
        tokens=8,
    )
    prune_checkpoint(
        saved("mixtral"),
        tmp_path / "out",
        kind="inter",
        ratio=0.5,
        criterion="frequency",
        scores=scores,
    )
    old, new = tensors_of(saved("mixtral")), tensors_of(tmp_path / "out")
    name = "model.layers.1.block_sparse_moe."
    for place, was in enumerate((0, 2, 4, 6)):
        assert torch.equal(
            new[f"{name}experts.{place}.w2.weight"], old[f"{name}experts.{was}.w2.weight"]
        )
    assert torch.equal(new[f"{name}gate.weight"], old[f"{name}gate.weight"][[0, 2, 4, 6]])
    assert f"{name}experts.4.w2.weight" not in new


@pytest.mark.parametrize("kind, ratio", [("inter", 0.25), ("intra", 0.5)])
@pytest.mark.parametrize("name", ["olmoe", "qwen2_moe", "deepseek_v2"])
def test_the_pruned_folder_has_the_parameters_that_the_pruned_architecture_counts(
    name, kind, ratio, saved, tmp_path
):
    report = prune_checkpoint(saved(name), tmp_path / "out", kind=kind, ratio=ratio)
    counted, _ = prune_architecture(catalog.load(str(saved(name))), kind=kind, ratio=ratio)
    assert (
        sizes.total_parameters(counted)
        == report.parameters_after
        == sum(t.numel() for t in tensors_of(tmp_path / "out").values())
    )
    assert report.bytes_after == 4 * report.parameters_after < report.bytes_before
    assert (
        json.loads((tmp_path / "out" / REPORT).read_text())["parameters_after"]
        == report.parameters_after
    )


def test_sharded_folders_stay_sharded_and_give_the_same_model(saved, tmp_path):
    sharded = saved("olmoe", max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 3
    prune_checkpoint(sharded, tmp_path / "many", kind="inter", ratio=0.25, max_shard_bytes=100_000)
    prune_checkpoint(saved("olmoe"), tmp_path / "one", kind="inter", ratio=0.25)
    assert len(list((tmp_path / "many").glob("model-*-of-*.safetensors"))) > 3
    assert max(p.stat().st_size for p in (tmp_path / "many").glob("*.safetensors")) < 110_000
    assert same_tensors(tensors_of(tmp_path / "one"), tensors_of(tmp_path / "many"))
    assert not (tmp_path / "one" / INDEX).exists()
    assert same_tensors(
        tiny_moe.load(tmp_path / "one").state_dict(), tiny_moe.load(tmp_path / "many").state_dict()
    )


def test_other_files_come_along_but_unpruned_weights_do_not(editable, tmp_path):
    source = editable()
    (source / "modeling_own.py").write_text("x = 1\n")
    (source / "pytorch_model.bin").write_bytes(b"old")
    (source / "original").mkdir()
    (source / "original" / "params.json").write_text("{}")
    (source / "original" / "consolidated.00.pth").write_bytes(b"old")
    report = prune_checkpoint(source, tmp_path / "out", kind="inter", ratio=0.25)
    found = {
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert found == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "modeling_own.py",
        "model.safetensors",
        "original/params.json",
        REPORT,
    }
    assert "pytorch_model.bin" in report.notes[0]


@pytest.mark.parametrize("kind", ["inter", "intra"])
def test_bfloat16_weights_stay_bfloat16(kind, saved, tmp_path):
    copy.deepcopy(tiny_moe.build("qwen3_moe")).to(torch.bfloat16).save_pretrained(
        tmp_path / "source"
    )
    prune_checkpoint(tmp_path / "source", tmp_path / "out", kind=kind, ratio=0.25)
    prune_checkpoint(saved("qwen3_moe"), tmp_path / "full", kind=kind, ratio=0.25)
    half, full = tensors_of(tmp_path / "out"), tensors_of(tmp_path / "full")
    assert {t.dtype for t in half.values()} == {torch.bfloat16}
    assert half.keys() == full.keys() and all(half[n].shape == full[n].shape for n in full)
    tiny_moe.load(tmp_path / "out")


def test_random_follows_the_seed_and_differs_between_layers(saved, tmp_path):
    kept = [
        prune_checkpoint(
            saved("mixtral"),
            tmp_path / str(i),
            kind="inter",
            ratio=0.5,
            criterion="random",
            seed=seed,
        ).kept_experts
        for i, seed in enumerate((1, 1, 2))
    ]
    assert kept[0] == kept[1] != kept[2]
    assert kept[0][tiny_moe.site(0)] != kept[0][tiny_moe.site(1)]


def test_ties_go_by_index(saved, tmp_path):
    scores = Scores({tiny_moe.site(n): {"frequency": np.ones(8)} for n in (0, 1)})
    report = prune_checkpoint(
        saved("mixtral"),
        tmp_path / "out",
        kind="inter",
        ratio=0.25,
        criterion="frequency",
        scores=scores,
    )
    assert report.kept_experts[tiny_moe.site(0)] == [2, 3, 4, 5, 6, 7]


PEAK = """
import sys, pathlib
from safetensors.torch import load_file
from moebook.models.pruning import prune_checkpoint
def peak_mib():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith("VmHWM")).split()[1]) / 1024
target, small, *sources = map(pathlib.Path, sys.argv[1:])
# Modules that the libraries load at their first call are no part of the model's memory.
prune_checkpoint(small, target / "small", kind="inter", ratio=0.25)
start = peak_mib()
for place, source in enumerate(sources):
    out = target / str(place)
    prune_checkpoint(source, out, kind="inter", ratio=0.25, max_shard_bytes=16 * 2**20)
pruned = peak_mib()
whole = [t.clone() for f in source.glob("*.safetensors") for t in load_file(f).values()]
print(pruned - start, peak_mib() - start)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="the kernel's peak-memory counter is read from /proc",
)
def test_peak_memory_is_far_below_the_model(saved, tmp_path):
    """Of a model in one file, and in shards."""
    kind, extra = tiny_moe.MODELS["mixtral"]
    wide = {"num_hidden_layers": 16, "hidden_size": 256, "intermediate_size": 512}
    config = transformers.AutoConfig.for_model(kind, **{**tiny_moe.COMMON, **extra, **wide})
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "sharded", max_shard_size=2**24)
    model.save_pretrained(tmp_path / "one", max_shard_size=2**40)
    size = sum(tensor.nbytes for tensor in model.parameters()) / 2**20
    command = [tmp_path / "out", saved("mixtral"), tmp_path / "sharded", tmp_path / "one"]
    out = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    pruning, loading = map(float, out.stdout.split())
    assert loading > 0.9 * size, "the measurement would not see the model"
    assert pruning < 0.3 * size, f"{pruning:.0f} MiB for a model of {size:.0f} MiB"


@pytest.mark.parametrize(
    "name, kind, ratio, shape",
    [
        ("Mixtral-8x7B-v0.1", "inter", 0.5, (14336, 4)),
        ("Mixtral-8x7B-v0.1", "intra", 0.25, (10752, 8)),
        ("OLMoE-1B-7B-0924", "inter", 0.125, (1024, 56)),
        ("DeepSeek-V3", "inter", 0.5, (2048, 128)),
        ("gpt-oss-20b", "intra", 0.5, (1440, 32)),
        ("tiny-mixtral", "inter", 0, None),
    ],
)
def test_pruned_architectures(name, kind, ratio, shape):
    arch = catalog.load(name)
    pruned, notes = prune_architecture(arch, kind=kind, ratio=ratio)
    assert pruned.shape[:2] == (shape or arch.shape[:2]) and notes == []
    assert pruned.top_k == arch.top_k


def test_rounding_is_told():
    arch = catalog.load("Qwen1.5-MoE-A2.7B")  # E 60, I 1408
    pruned, notes = prune_architecture(arch, kind="inter", ratio=0.125)
    assert pruned.num_experts == 52 and "is 7.5; removed 8" in notes[0]
    pruned, notes = prune_architecture(arch, kind="intra", ratio=0.3)
    assert pruned.expert_ffn_dim == 992 and "985.6; rounded to 992, a multiple of 16" in notes[0]
    assert "(really 0.2955 less)" in notes[0]
    assert prune_architecture(arch, kind="intra", ratio=0.99)[0].expert_ffn_dim == 16


@pytest.mark.parametrize(
    "name, options, words",
    [
        (
            "Mixtral-8x7B-v0.1",
            {"kind": "inter", "ratio": 0.9},
            "removes 7 of 8 experts, fewer than the 2.*up to 0.75",
        ),
        ("Mixtral-8x7B-v0.1", {"kind": "inter", "ratio": 1}, "ratio is 1; give the fraction"),
        ("Mixtral-8x7B-v0.1", {"kind": "inter", "ratio": 12.5}, "0.125 for 12.5 %"),
        ("Mixtral-8x7B-v0.1", {"kind": "inter", "ratio": -0.1}, "ratio is -0.1"),
        ("Mixtral-8x7B-v0.1", {"kind": "inter", "ratio": float("nan")}, "ratio is nan"),
        ("Mixtral-8x7B-v0.1", {"kind": "inter", "ratio": "0.5"}, "ratio is '0.5'"),
        ("Mixtral-8x7B-v0.1", {"kind": "both", "ratio": 0.5}, "kind is 'both'; allowed: inter"),
        (
            "DeepSeek-V3",
            {"kind": "inter", "ratio": 0.1},
            "cannot be split into its 8 router groups",
        ),
        ("Qwen3-8B", {"kind": "inter", "ratio": 0.5}, "is a dense model"),
        ("MolmoE-1B-0924", {"kind": "inter", "ratio": 0.5}, "edit OLMoE"),
    ],
)
def test_impossible_prunings_say_why(name, options, words):
    with pytest.raises(ImpossibleEdit, match=words) as refused:
        prune_architecture(catalog.load(name), **options)
    assert name in str(refused.value)


def test_experts_narrower_than_the_kernels_need_cannot_be_narrowed():
    narrow = dataclasses.replace(catalog.load("tiny-mixtral"), expert_ffn_dim=8)
    with pytest.raises(ImpossibleEdit, match="tiny-mixtral: .* 8 is below one multiple of 16"):
        prune_architecture(narrow, kind="intra", ratio=0.5)


def _remove(name):
    return lambda folder: (folder / name).unlink()


def _cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _garbage(folder):
    (folder / "model.safetensors").write_bytes(b"not a safetensors file")


def _config(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def _bin_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _tensors(change):
    def rewrite(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


LAYER = "model.layers.1.block_sparse_moe."
EXPERT = LAYER + "experts.5.w3.weight"
BROKEN = {
    "no config": (_remove("config.json"), "config.json is missing"),
    "broken config": (
        lambda f: (f / "config.json").write_text("{"),
        "config.json is not valid JSON",
    ),
    "list for config": (
        lambda f: (f / "config.json").write_text("[]"),
        "holds a list, not a mapping",
    ),
    "cut short": (_cut, "model.safetensors is damaged or cut short"),
    "garbage": (_garbage, "model.safetensors is damaged"),
    "bin only": (_bin_only, "neither model.safetensors nor .*pytorch_model.bin.*save_pretrained"),
    "quantized": (_config(quantization_config={"quant_method": "fp8"}), r"is quantized \(fp8\)"),
    "unknown family": (
        _config(model_type="switch", architectures=None),
        "config.json: .*knows neither model_type 'switch'",
    ),
    "dense": (
        _config(model_type="qwen3", architectures=["Qwen3ForCausalLM"]),
        "qwen3 has no MoE layers",
    ),
    "text for the number of experts": (
        _config(num_local_experts="8"),
        "config.json: .*num_local_experts",
    ),
    "a billion layers": (_config(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    "a billion experts": (_config(num_local_experts=10**9), "num_local_experts is 1000000000"),
    "half a layer": (_config(num_hidden_layers=1.5), "config.json: .*num_hidden_layers"),
    "more experts a token than there are": (_config(num_experts_per_tok=9), "config.json: .*9"),
    "an odd activation": (_config(hidden_act="nothing"), "config.json: transformers cannot build"),
    "ModelOpt's format": (
        lambda f: (f / "hf_quant_config.json").write_text("{}"),
        r"is quantized \(ModelOpt\)",
    ),
    "missing matrix": (
        _tensors(lambda t: t.pop(EXPERT)),
        "lacks model.layers.1.block_sparse_moe.experts.5.w3.weight .1 missing in all",
    ),
    "missing router": (
        _tensors(lambda t: t.pop(LAYER + "gate.weight")),
        "lacks model.layers.1.block_sparse_moe.gate.weight .1 missing",
    ),
    "missing layer": (_config(num_hidden_layers=3), "lacks model.layers.2.* .31 missing in all"),
    "a layer too many": (_config(num_hidden_layers=1), "holds model.layers.1.*does not have"),
    "a tensor of nothing": (
        _tensors(lambda t: t.update({"model.extra.weight": torch.ones(1)})),
        "holds model.extra.weight, which the model does not have",
    ),
    "too many experts": (
        _config(num_local_experts=6),
        r"has shape \(8, 64\), but config.json asks for \(6, 64\)",
    ),
    "wrong width": (
        _config(intermediate_size=128),
        r"shape \(64, 64\), but config.json asks for \((128, 64|64, 128)\)",
    ),
    "fp8 experts": (
        _tensors(lambda t: t.update({EXPERT: t[EXPERT].to(torch.float8_e4m3fn)})),
        "stored as float8_e4m3fn",
    ),
    "scales": (
        _tensors(lambda t: t.update({EXPERT + "_scale_inv": torch.ones(1)})),
        "quantized .it holds model.layers.1.*weight_scale_inv",
    ),
    "not finite": (
        _tensors(lambda t: t[EXPERT].fill_(torch.nan)),
        "model.layers.1.mlp are not all finite",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_folders_are_refused_and_leave_nothing(fault, editable, tmp_path):
    damage, words = BROKEN[fault]
    source = editable()
    damage(source)
    with pytest.raises(CheckpointError, match=words) as refused:
        prune_checkpoint(source, tmp_path / "out", kind="inter", ratio=0.25)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]
    assert str(source) in str(refused.value) or fault == "not finite"


@pytest.mark.parametrize(
    "key",
    [
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "num_local_experts",
        "intermediate_size",
        "num_experts_per_tok",
    ],
)
def test_sizes_that_are_none_or_not_the_weights_are_told(key, editable, tmp_path):
    source = editable()
    for value in (0, -1, 1.5, True, 10**9, "4", [], {}, 17):
        _config(**{key: value})(source)
        with pytest.raises(CheckpointError, match="config.json|safetensors|lacks"):
            prune_checkpoint(source, tmp_path / "out", kind="inter", ratio=0.25)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_shards_that_are_missing_or_disagree_with_the_index(editable, tmp_path):
    source = editable("olmoe", max_shard_size="100KB")
    index = json.loads((source / INDEX).read_text())
    first, second = sorted(set(index["weight_map"].values()))[:2]
    held = (source / second).read_bytes()
    (source / second).unlink()
    with pytest.raises(CheckpointError, match=f"{second} is missing, though {INDEX} names it"):
        prune_checkpoint(source, tmp_path / "out", kind="inter", ratio=0.25)
    (source / second).write_bytes(held)
    name = next(n for n, file in index["weight_map"].items() if file == second)
    index["weight_map"][name] = first
    (source / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=f"{first} lacks {name}"):
        prune_checkpoint(source, tmp_path / "out", kind="inter", ratio=0.25)
    (source / INDEX).write_text("{}")
    with pytest.raises(CheckpointError, match="has no weight_map"):
        prune_checkpoint(source, tmp_path / "out", kind="inter", ratio=0.25)


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere is no folder"):
        prune_checkpoint(tmp_path / "nowhere", tmp_path / "out", kind="inter", ratio=0.25)


def test_targets_are_replaced_only_when_asked_and_only_if_they_are_checkpoints(editable, tmp_path):
    source, out = editable(), tmp_path / "out"
    options = {"kind": "inter", "ratio": 0.25}
    prune_checkpoint(source, out, **options)
    with pytest.raises(CheckpointError, match="exists; give another folder, or overwrite=True"):
        prune_checkpoint(source, out, **options)
    prune_checkpoint(source, out, kind="inter", ratio=0.5, overwrite=True)
    assert open_checkpoint(out).config["num_local_experts"] == 4
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("years of work")
    for target, words in (
        (tmp_path / "papers", "holds thesis.tex .*pruning did not write"),
        (source, "is the source"),
        (tmp_path, "one holds the other"),
        (source / "in", "one holds the other"),
    ):
        with pytest.raises(CheckpointError, match=words):
            prune_checkpoint(source, target, **options, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "papers", "source"]


def test_a_failure_while_writing_keeps_the_old_target(editable, tmp_path, monkeypatch):
    source, out = editable(), tmp_path / "out"
    prune_checkpoint(source, out, kind="inter", ratio=0.25)
    before = (out / "model.safetensors").read_bytes()

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(pruning, "write_tensors", full)
    with pytest.raises(CheckpointError, match="no space.*nothing was left there"):
        prune_checkpoint(source, out, kind="inter", ratio=0.5, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]
    assert (out / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"criterion": "size"},
            "criterion is 'size'; allowed: random, norm, frequency, routed_activation",
        ),
        (
            {"criterion": "frequency"},
            "needs scores from text; run moebook.models.pruning.calibration.collect_from_folder",
        ),
        ({"criterion": "routed_activation"}, "needs scores"),
        (
            {
                "criterion": "frequency",
                "scores": Scores({"model.layers.0.mlp": {"frequency": np.ones(8)}}),
            },
            "no 'frequency' for model.layers.1.mlp",
        ),
        (
            {
                "criterion": "frequency",
                "scores": Scores({"model.layers.0.mlp": {"frequency": np.ones(4)}}),
            },
            r"shape \(4,\), but the model needs",
        ),
    ],
)
def test_scores_that_do_not_serve(options, words, saved, tmp_path):
    with pytest.raises(CheckpointError, match=words):
        prune_checkpoint(saved("mixtral"), tmp_path / "out", kind="inter", ratio=0.25, **options)
    assert not list(tmp_path.iterdir())
