"""Pruned checkpoints of every family: the whole model with the same experts masked, or the same
channels zeroed, gives the same logits."""

import numpy as np
import pytest

pytest.importorskip("torch")
import tiny_families
import torch
from tiny_families import E, I

from moebook.models.architecture import from_config
from moebook.models.pruning import calibration, prune_checkpoint
from moebook.models.pruning.checkpoint import CheckpointError, open_checkpoint
from moebook.models.pruning.roles import find
from moebook.models.pruning.saliency import Scores

NAMES = pytest.mark.parametrize("name", tiny_families.MODELS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")

    def folder(name: str):
        if not (root / name).exists():
            tiny_families.build(name).save_pretrained(root / name)
        return root / name

    return folder


def _chosen(folder, name: str, shape: tuple[int, ...]) -> Scores:
    """Scores set by hand: random numbers for each MoE layer of the checkpoint."""
    checkpoint = open_checkpoint(folder)
    sites = find(checkpoint, from_config(checkpoint.config, name, "")).sites
    draws = {site: np.random.default_rng(i).random(shape) for i, site in enumerate(sites)}
    return Scores({site: {name: values} for site, values in draws.items()}, tokens=1)


@NAMES
def test_fewer_experts_equal_the_whole_model_with_their_routers_masked(name, saved, tmp_path):
    full = tiny_families.build(name)
    scores = _chosen(saved(name), "frequency", (E,))
    report = prune_checkpoint(
        saved(name),
        tmp_path,
        kind="inter",
        ratio=0.25,
        criterion="frequency",
        scores=scores,
        overwrite=True,
    )
    assert report.kept_experts and all(len(kept) == 6 for kept in report.kept_experts.values())
    pruned = tiny_families.logits(tiny_families.load(tmp_path, full))
    with tiny_families.experts_removed(full, report.kept_experts):
        masked = tiny_families.logits(full)
    torch.testing.assert_close(pruned, masked, atol=1e-5, rtol=1e-5)
    assert (pruned - tiny_families.logits(full)).abs().max() > 1e-2


@NAMES
def test_narrower_experts_equal_the_whole_model_with_their_channels_zeroed(name, saved, tmp_path):
    full = tiny_families.build(name)
    scores = _chosen(saved(name), "channel_frequency", (E, I))
    report = prune_checkpoint(
        saved(name),
        tmp_path,
        kind="intra",
        ratio=1 / 3,
        criterion="frequency",
        scores=scores,
        overwrite=True,
    )
    assert (report.ffn_dim_before, report.ffn_dim_after) == (48, 32)
    loaded = tiny_families.load(tmp_path, full)
    kept = {
        site: np.argsort(by_name["channel_frequency"], axis=1)[:, -32:]
        for site, by_name in scores.layers.items()
    }
    masked = tiny_families.logits(tiny_families.channels_zeroed(full, loaded, kept))
    pruned = tiny_families.logits(loaded)
    torch.testing.assert_close(pruned, masked, atol=2e-5, rtol=1e-4)
    assert (pruned - tiny_families.logits(full)).abs().max() > 1e-2


UNSERVED = ("llama4_text", "dbrx", "jetmoe")


@pytest.mark.parametrize("name", [name for name in tiny_families.MODELS if name not in UNSERVED])
def test_scores_from_text_see_what_the_experts_compute(name):
    """The router's weights times the outputs that are scored add up to what the layer gives."""
    model, seen = tiny_families.build(name), {}
    modules = calibration.experts_of(model)
    hooks = [
        module.register_forward_hook(
            lambda m, args, kwargs, out, site=site: seen.update({site: (args, kwargs, out)}),
            with_kwargs=True,
        )
        for site, module in modules.items()
    ]
    try:
        scores = calibration.collect(model, [tiny_families.tokens()])
    finally:
        for hook in hooks:
            hook.remove()
    k = tiny_families.top_k(name)
    for site, (args, kwargs, out) in seen.items():
        x, index, weights = [*args, *kwargs.values()][:3]
        x, module = x.reshape(-1, x.shape[-1]), modules[site]
        total = torch.zeros_like(x)
        for e in range(E):
            each = calibration.output(module, e, calibration.inner(module, e, x))
            total += (weights * (index == e)).reshape(len(x), -1).sum(1, keepdim=True) * each
        torch.testing.assert_close(total, out.reshape(total.shape), atol=1e-4, rtol=1e-4)
        assert 0 < scores.layers[site]["frequency"].sum() <= k + 1e-9
        assert (scores.layers[site]["routed_activation"] > 0).any()
    assert seen.keys() == scores.layers.keys()


@pytest.mark.parametrize("name", UNSERVED)
def test_families_without_scores_from_text_are_told_so(name):
    with pytest.raises(CheckpointError, match="not available for it; use criterion norm or random"):
        calibration.collect(tiny_families.build(name), [tiny_families.tokens()])
