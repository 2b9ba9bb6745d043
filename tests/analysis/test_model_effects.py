"""Effects and claims of section 9: planted speeds give their leads back, within one number format
only."""

from dataclasses import dataclass

import model_tables as t
import numpy as np
import pandas as pd
import pytest

from moebook import sections
from moebook.models import catalog, sizes
from moebook.predict.columns import of_those_under
from moebook.results import verdicts
from moebook.results.cells import Cells, Untested
from moebook.sections.model_comparison import enrich
from moebook.sections.model_comparison.claims import (
    ffn_share,
    model_change,
    model_lead,
    model_order,
    over_fastest,
)
from moebook.sections.model_comparison.enrich import accuracy_rows, common_format

OLMOE, PHI, MIXTRAL, QWEN3, LITE = (
    "OLMoE-1B-7B-0125",
    "Phi-3.5-MoE-instruct",
    "Mixtral-8x7B-v0.1",
    "Qwen3-30B-A3B",
    "DeepSeek-V2-Lite",
)
BOOK = {c.id: c for c in sections.find("09").claims}


@dataclass(frozen=True)
class Params:
    accuracy_file: str | None


@dataclass(frozen=True)
class Results:
    summary: pd.DataFrame
    params: Params


def cells(table: pd.DataFrame, sweep="llms", metric="throughput_tok_s") -> Cells:
    return Cells.of(table, sweep, metric)


def models(*args, **given) -> pd.DataFrame:
    """All routed alike."""
    return t.models(*args, **given).assign(routing="uniform")


def judge(table: pd.DataFrame, claim_id: str):
    return verdicts.evaluate(table, [BOOK[claim_id]], checks=False)[0]


def test_the_lead_is_over_the_next_in_the_format_that_most_models_have():
    found = model_lead(cells(models()), OLMOE)
    assert found.values == pytest.approx([100 * (2.0 / 1.1 - 1)]) and found.whole
    lo, hi = found.items[0].ends()
    assert lo < found.values[0] < hi
    assert set(found.used["series"]) == {"fp8"} and len(found.used) == 6
    assert f"fastest to slowest: {OLMOE}, {LITE}" in found.text
    assert found.text.startswith("in fp8, routing uniform")


def test_a_format_without_the_model_does_not_decide():
    """Phi has no bf16; where fp8 is of Phi and one other alone, they are compared there all the
    same."""
    few = models(formats=t.FORMATS, oom=(PHI,))
    few = few[(few["series"] == "bf16") | few["model"].isin([PHI, QWEN3])]
    found = model_lead(cells(few), PHI, over="slowest")
    assert found.values == pytest.approx([100 * (0.4 / 0.7 - 1)]) and set(found.used["series"]) == {
        "fp8"
    }


def test_a_model_alone_or_absent_is_untested_with_the_reason():
    with pytest.raises(Untested, match="no other model"):
        model_lead(cells(models({OLMOE: 1.0})), OLMOE)
    only = models(formats={"bf16": (None, 1.0)})
    with pytest.raises(Untested, match=rf"in bf16 none of {PHI} \(synthetic oom\)"):
        model_lead(cells(only), PHI)
    with pytest.raises(Untested, match=rf"not among the models compared: {OLMOE}"):
        model_change(cells(t.small()), "tiny-mixtral", OLMOE)


def test_a_planned_model_without_a_number_makes_the_effect_partial():
    table = models(oom=())
    gone = (table["model"] == QWEN3) & (table["series"] == "fp8")
    table = table.assign(
        status=table["status"].mask(gone, "failed"), reason=table["reason"].mask(gone, "it died")
    )
    bf16 = table["series"] == "bf16"
    found = model_lead(cells(table[~bf16]), OLMOE)
    assert not found.whole and f"not measured in fp8: {QWEN3}: it died" in found.text


def test_changes_of_ttft_and_of_latency():
    ttft = model_change(cells(models(), metric="ttft_s"), LITE, OLMOE, "ttft_s")
    assert ttft.values == pytest.approx([100 * (2.0 / 1.1 - 1)]) and " ms" in ttft.text
    table = models()
    fall, more = (
        over_fastest(cells(table), [QWEN3, MIXTRAL]),
        over_fastest(cells(table), [QWEN3, MIXTRAL], of="latency"),
    )
    assert fall.values == pytest.approx([0.7 / 2 * 100 - 100, 0.5 / 2 * 100 - 100])
    assert more.values == pytest.approx([100 * (2 / 0.7 - 1), 100 * (2 / 0.5 - 1)])
    assert f"over {OLMOE}" in more.text


def test_an_order_holds_only_where_every_step_does():
    up = model_order(cells(t.vision(), "vlms", "e2e_s"), list(t.VLMS), "e2e_s")
    assert up.values == pytest.approx([100, 50])
    mixed = model_order(cells(t.vision((3.0, 1.0, 1.25)), "vlms", "e2e_s"), list(t.VLMS), "e2e_s")
    assert mixed.values.min() == pytest.approx(-20)


def test_ffn_shares_are_counted_from_configs():
    arch = catalog.load(MIXTRAL)
    counts = sizes.parameter_counts(arch)
    found = ffn_share(cells(models()), [MIXTRAL], "total")
    wanted = pytest.approx(100 * counts["experts"] / sum(counts.values()))
    assert found.values == wanted and found.items[0].ends() == (wanted, wanted)
    active = ffn_share(cells(models()), [MIXTRAL, OLMOE], "active")
    assert active.values[0] < found.values[0] and OLMOE in active.text


def test_verdicts_follow_the_planted_speeds():
    assert judge(models(), "olmoe-fastest").verdict == "supported"
    assert judge(models({**t.SPEED, OLMOE: 1.2}), "olmoe-fastest").verdict == "mixed"
    assert judge(models({**t.SPEED, OLMOE: 0.6}), "olmoe-fastest").verdict == "contradicted"
    assert judge(models({**t.SPEED, OLMOE: 1.1 * 1.7}), "olmoe-ttft").verdict == "supported"
    assert judge(models({**t.SPEED, OLMOE: 1.2}), "olmoe-ttft").verdict == "mixed"
    assert judge(models({**t.SPEED, OLMOE: 0.4}), "olmoe-ttft").verdict == "contradicted"
    assert judge(models(), "phi-slowest").verdict == "supported"
    assert judge(models({**t.SPEED, PHI: 0.9}), "phi-slowest").verdict == "contradicted"
    half = {**dict.fromkeys(t.LLMS, 1.0), QWEN3: 0.55, MIXTRAL: 0.55}
    assert judge(models(half), "accurate-is-slow").verdict == "supported"
    assert judge(models(), "accurate-is-slow").verdict == "contradicted"


def test_the_vl2_claim_needs_order_and_two_distances():
    verdict = judge(t.vision((3.6, 2.0, 1.0)), "vl2-order")
    told = {p.name: p.verdict for p in verdict.parts}
    assert told == {
        "order": "supported",
        "TTFT apart": "contradicted",  # reported: the vision tower is not in it
        "TPOT apart": "supported",
        "E2E apart": "supported",
    }
    assert verdict.verdict == "supported"
    assert judge(t.vision((1.0, 2.0, 3.0)), "vl2-order").verdict == "contradicted"


def test_on_other_models_the_claims_are_untested_and_ffn_is_decided():
    table = t.small()
    assert {judge(table, c).verdict for c in BOOK if c != "ffn-dominates"} == {"untested"}
    assert judge(table, "ffn-dominates").verdict != "untested"


def test_imposed_routing_is_judged_apart_from_the_models_own():
    """In another section DeepSeek-V2-Lite lies under its floor with its own routers: that leaves
    its imposed rows in."""
    table = pd.concat(
        [
            models({**t.SPEED, OLMOE: 1.1 * 1.7}).assign(floor_tpot_s=0.0, routing="uniform"),
            t.models({LITE: 1.0}, imposed=(), sweep="quant_batch").assign(
                floor_tpot_s=1e9, routing="model"
            ),
        ],
        ignore_index=True,
    )
    under = of_those_under(table)
    assert set(table.loc[under, "sweeps"]) == {"quant_batch"} and set(
        table.loc[under, "model"]
    ) == {LITE}
    assert judge(table, "olmoe-ttft").verdict == "supported"
    both = table.assign(floor_tpot_s=1e9)
    assert of_those_under(both)[both["status"] == "ok"].all()


def test_models_that_are_not_routed_alike_are_not_compared():
    table = models()
    table["routing"] = np.where(table["model"] == LITE, "uniform", "model")
    verdict = judge(table, "olmoe-fastest")
    assert verdict.verdict == "untested" and "not routed alike" in verdict.reason
    assert judge(table[table["model"] != LITE], "olmoe-fastest").verdict == "supported"


def test_accuracy_is_joined_within_a_suite_and_a_format():
    rows = accuracy_rows(models())
    assert set(rows["suite"]) == {"zero-shot", "chat", "mmlu"} and set(rows["series"]) == {"fp8"}
    mmlu = rows[rows["suite"] == "mmlu"].set_index("model")
    assert (
        len(mmlu) == 6
        and mmlu.loc[OLMOE, "accuracy_pct"] == pytest.approx(54.27)
        and set(mmlu["tasks"]) == {"MMLU"}
    )
    assert not rows[rows["suite"] == "mmlu"]["alike"].any() and set(rows["evidence"]) == {
        "published"
    }
    assert accuracy_rows(t.small()).empty
    vision = accuracy_rows(t.vision())
    assert set(vision["kind"]) == {"vlm"} and set(vision["tasks"]) == {
        "TextVQA, AI2D, DocVQA, MMMU, InfoVQA"
    }
    assert vision.set_index("model").loc[t.VLMS[0], "accuracy_pct"] == pytest.approx(
        (71.6 + 88.9 + 66.1 + 40.7 + 80.7) / 5
    )


def test_measured_accuracies_stand_beside_the_published(tmp_path):
    file = tmp_path / "m.json"
    file.write_text(
        '{"tiny-mixtral": {"boolq": {"acc,none": 0.5}}, '
        '"tiny-qwen2-moe": {"boolq": {"acc,none": 0.75}}}'
    )
    rows = accuracy_rows(enrich.summary(Results(t.small(), Params(str(file)))))
    assert set(rows["evidence"]) == {"measured"} and sorted(rows["accuracy_pct"]) == [50.0, 75.0]
    assert accuracy_rows(enrich.summary(Results(t.small(), Params(None)))).empty


def test_the_common_format_has_the_asked_models_first_and_then_most():
    rows = pd.DataFrame({"series": ["a", "a", "b", "b", "b"], "model": ["x", "y", "y", "z", "w"]})
    assert (common_format(rows), common_format(rows, ["x"]), common_format(rows, ["y"])) == (
        "b",
        "a",
        "b",
    )
