"""The balancing rules on cases small enough to do by hand."""

import pytest

torch = pytest.importorskip("torch")
from moebook.models.tiny import losses  # noqa: E402


def logits_of(probabilities: list[list[float]]):
    return torch.tensor(probabilities).log()


def test_even_routing_has_loss_one():
    logits = torch.zeros(4, 4)
    assert losses.auxiliary_loss(logits, torch.tensor([[0], [1], [2], [3]])) == pytest.approx(1)


def test_loss_by_hand():
    """f = (3/4, 1/4), P = (0.7, 0.3): 2 (0.75 * 0.7 + 0.25 * 0.3) = 1.2."""
    logits = logits_of([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    assert losses.auxiliary_loss(logits, torch.tensor([[0], [0], [0], [1]])) == pytest.approx(1.2)


def test_one_busy_expert_of_e_has_nearly_loss_e():
    logits = torch.tensor([[30.0, 0, 0, 0, 0, 0, 0, 0]]).repeat(5, 1)
    assert losses.auxiliary_loss(logits, torch.zeros(5, 1, dtype=torch.long)) == pytest.approx(8)


def test_choices_count_all_k():
    """Two experts a token: f = (1/2, 1/4, 1/4) of six choices, not of three tokens."""
    chosen = torch.tensor([[0, 1], [0, 2]])
    logits = logits_of([[0.5, 0.3, 0.2], [0.5, 0.2, 0.3]])
    assert losses.expert_counts(chosen, 3).tolist() == [2, 1, 1]
    assert losses.auxiliary_loss(logits, chosen) == pytest.approx(3 * (0.5 * 0.5 + 0.25 * 0.25 * 2))


def test_the_gradient_takes_probability_from_the_busy_expert():
    logits = torch.zeros(4, 2, requires_grad=True)
    losses.auxiliary_loss(logits, torch.tensor([[0], [0], [0], [1]])).backward()
    assert (logits.grad[:, 0] > 0).all() and (logits.grad[:, 1] < 0).all()


def test_the_bias_moves_towards_idle_experts_by_a_fixed_step():
    bias = torch.tensor([[0.5, 0.0, 0.0, 0.0]])
    losses.update_bias(bias, torch.tensor([90, 10, 0, 40]), 0.01)
    assert bias[0].tolist() == pytest.approx([0.49, 0.01, 0.01, -0.01])


def test_an_expert_with_the_mean_load_keeps_its_bias():
    bias = torch.zeros(1, 3)
    losses.update_bias(bias, torch.tensor([4, 2, 3]), 0.5)
    assert bias[0].tolist() == [-0.5, 0.5, 0]


def test_imbalance_is_the_mean_over_layers_of_max_over_mean():
    assert losses.imbalance(torch.tensor([[5, 5, 5, 5], [20, 0, 0, 0]])) == pytest.approx(
        (1 + 4) / 2
    )


@pytest.mark.parametrize("member", ["aux-0.01", "loss-free"])
def test_the_watch_sees_what_the_routers_choose(member):
    from moebook.models.tiny.recipes import PRESETS
    from moebook.models.tiny.train_member import build

    preset = PRESETS["test"]
    model = build(preset.members[member], preset)
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad(), losses.Watch(model) as watch:
        model(input_ids=ids)
        shape = preset.members[member].shape
        assert watch.counts().shape == (shape.layers, shape.experts)
        assert watch.counts().sum(1).tolist() == [24 * shape.top_k] * shape.layers
        logits, chosen = watch.logits[0], watch.chosen[0]
        assert chosen.sort(-1).values.equal(
            logits.float().softmax(-1).topk(shape.top_k).indices.sort(-1).values
        )


def test_a_large_bias_turns_the_choice_but_not_the_weights():
    from moebook.models.tiny.recipes import PRESETS
    from moebook.models.tiny.train_member import build

    preset = PRESETS["test"]
    model = build(preset.members["loss-free"], preset)
    router = model.model.layers[0].mlp.gate
    x = torch.randn(6, preset.members["loss-free"].shape.hidden)
    with torch.no_grad():
        router.moe_statics.e_score_correction_bias[0, 5] = 9
        logits, weights, chosen = router(x)
        assert (chosen == 5).any(-1).all()
        scores = logits.softmax(-1).gather(1, chosen)
        assert weights.allclose(scores / scores.sum(-1, keepdim=True))
