"""How experts are drawn in place of a router's choice, without an engine."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from moebook.engine.vllm import patches_routers as routers  # noqa: E402

TOKENS, EXPERTS, K = 64, 8, 2


@pytest.mark.parametrize(("alike", "distinct"), [(False, EXPERTS), (True, K)])
def test_every_token_draws_its_own_experts_or_all_the_same(alike, distinct):
    torch.manual_seed(0)
    router = SimpleNamespace(top_k=K)
    choose = routers._drawn(router, routers._drawer(torch.zeros(EXPERTS), alike))
    weights, ids = choose(None, torch.zeros(TOKENS, EXPERTS), torch.int64)
    assert ids.shape == weights.shape == (TOKENS, K) and ids.dtype == torch.int64
    assert len(ids.unique()) == distinct and (weights == 1 / K).all()
    assert all(len(row.unique()) == K for row in ids)
    assert not torch.equal(ids, choose(None, torch.zeros(TOKENS, EXPERTS), torch.int64)[1])


def test_a_kernel_that_chooses_by_itself_is_given_drawn_logits():
    torch.manual_seed(0)
    given = []
    experts = SimpleNamespace(
        forward_monolithic=lambda x, router_logits, input_ids: given.append(router_logits)
    )
    forward = routers._fed(experts, routers._drawer(torch.zeros(EXPERTS), alike=True))
    forward(x="x", router_logits=torch.zeros(TOKENS, EXPERTS, dtype=torch.bfloat16))
    (logits,) = given
    assert logits.shape == (TOKENS, EXPERTS) and logits.dtype == torch.bfloat16
    assert (logits == logits[0]).all() and len(logits[0].unique()) > K
