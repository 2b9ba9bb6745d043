"""Any sweep can be left out: the plan lacks it, its figures and its commentary say so, and the rest
is as it was."""

import importlib
import re
from unittest.mock import patch

import made_up
import matplotlib.pyplot as plt
import pytest

from moebook import sections
from moebook.problems import ParameterError
from moebook.results import loading, verdicts

# section, what is left out, sweeps that the plan then lacks
LEFT_OUT = [
    ("01", {"grid_model": None}, {"grid", "grid_same"}),
    ("01", {"ffn_dims": []}, {"grid", "grid_same"}),
    ("01", {"expert_counts": []}, {"grid", "grid_same"}),
    ("01", {"active_experts": []}, {"grid", "grid_same"}),
    ("01", {"grid_routings": ["model"]}, {"grid_same"}),
    ("01", {"routing_models": []}, {"routing"}),
    ("01", {"lengths": []}, {"batch_length"}),
    ("01", {"comparison_active_experts": []}, {"batch_topk"}),
    ("01", {"batches": []}, {"batch_topk", "batch_length"}),
    ("01", {"comparison_models": []}, {"batch_topk", "batch_length"}),
    ("01", {"validation_model": None}, {"validation"}),
    ("02", {"batch_tokens": None}, {"quant_batch"}),
    ("02", {"batches": []}, {"quant_batch"}),
    ("02", {"lengths": []}, {"quant_length"}),
    ("02", {"models": []}, {"quant_batch", "quant_length"}),
    ("02", {"pair": []}, {"quant_batch", "quant_length"}),
    ("02", {"formats_batches": []}, {"formats"}),
    ("02", {"formats_model": None}, {"formats"}),
    ("02", {"formats": []}, {"formats", "quality"}),
    ("02", {"weights": None}, {"quality"}),
    ("03", {"models": []}, {"pruning"}),
    ("03", {"ratios_pct": []}, {"pruning"}),
    ("03", {"active_experts": []}, {"pruning"}),
    ("03", {"quality_target": None}, {"quality"}),
    ("03", {"quality_ratios_pct": []}, {"quality"}),
    ("03", {"criteria": []}, {"quality"}),
    ("04", {"lengths": []}, {"spec_length"}),
    ("04", {"batches": []}, {"spec_batch"}),
    ("04", {"draft_tokens": []}, {"spec_tokens"}),
    ("04", {"target": None}, {"spec_length", "spec_batch", "spec_tokens"}),
    ("04", {"drafts": []}, {"spec_length", "spec_batch", "spec_tokens"}),
    ("04", {"trained_target": None}, {"acceptance"}),
    ("04", {"temperatures": []}, {"acceptance"}),
    ("04", {"texts": []}, {"acceptance"}),
    ("05", {"device_counts": []}, {"modes"}),
    ("05", {"shard_device_counts": []}, {"shards"}),
    ("06", {"layer_models": []}, {"layer"}),
    ("06", {"layer_tokens": []}, {"layer"}),
    ("06", {"layer_backends": []}, {"layer"}),
    ("06", {"quantized_formats": []}, {"layer_quantized"}),
    ("06", {"quantized_models": []}, {"layer_quantized"}),
    ("06", {"quantized_backends": []}, {"layer_quantized"}),
    ("06", {"quantized_tokens": []}, {"layer_quantized"}),
    ("06", {"tuned_model": None}, {"layer_tuned"}),
    ("06", {"tuned_tokens": []}, {"layer_tuned"}),
    ("06", {"ladder": []}, {"ladder_batch", "ladder_length"}),
    ("06", {"ladder_model": None}, {"ladder_batch", "ladder_length"}),
    ("06", {"ladder_batches": []}, {"ladder_batch"}),
    ("06", {"ladder_lengths": []}, {"ladder_length"}),
    ("07", {"variants": []}, {"training", "balance"}),
    ("07", {"texts": []}, {"balance"}),
    ("07", {"capture_ways": []}, {"balance"}),
    ("07", {"ablated": []}, {"importance"}),
    ("07", {"skews": []}, {"skew_layer", "skew_engine"}),
    ("07", {"skew_layer_models": []}, {"skew_layer"}),
    ("07", {"skew_layer_tokens": []}, {"skew_layer"}),
    ("07", {"skew_model": None}, {"skew_engine"}),
    ("07", {"skew_batches": []}, {"skew_engine"}),
    ("08", {"common_model": None}, {"common"}),
    ("08", {"common_batches": []}, {"common"}),
    ("08", {"common_lengths": []}, {"common"}),
    ("08", {"model": None}, {"scout"}),
    ("08", {"precisions": []}, {"scout"}),
    ("08", {"lengths": [], "large_batch_lengths": []}, {"scout"}),
    ("08", {"rooflines": []}, set()),
    ("08", {"beside": []}, set()),
    ("08", {"endpoint_lengths": []}, set()),
    ("09", {"llms": [], "imposing_check": None}, {"llms", "imposing"}),
    ("09", {"vlms": []}, {"vlms"}),
    ("09", {"formats": []}, {"llms", "imposing"}),
    ("09", {"imposing_check": None}, {"imposing"}),
]
# One of those that leave out the same.
SHOWN = {(stem, *sorted(gone or changes)): (stem, changes) for stem, changes, gone in LEFT_OUT}
NAMES = [f"{stem}-{'-'.join(changes)}" for stem, changes, _ in LEFT_OUT]


def sweeps(plan) -> set[str]:
    """Those that a figure shows; `support` and `check` go with theirs."""
    return {name for point in plan.points for name in point.sweeps} - {"support", "check"}


def show(results, stem: str) -> tuple[dict[str, str], dict[tuple, str]]:
    """Reasons of the figures that are not drawn, and all commentary of the notebook."""
    section = sections.find(stem)
    reasons = {}
    for name, draw in section.figures.items():
        try:
            fig, _ = draw(results.shown, width="page")
            plt.close(fig)
        except ValueError as error:
            reasons[name] = str(error)
    assert all(verdict.verdict for verdict in verdicts.evaluate(results.summary, section.claims))
    module = importlib.import_module(f"moebook.sections.{section.stem[3:]}.commentary")
    return reasons, {
        call: getattr(module, call[0])(results.shown, *call[1:])
        for call in made_up.said(section.stem)
    }


@pytest.fixture(scope="module", autouse=True)
def others_once():
    """The shipped results that section 8 sets beside its own are read once."""
    read, found = loading.reference_results, {}

    def once(params, plan, enrich):
        if plan.profile not in found:
            found[plan.profile] = read(params, plan, enrich)
        return found[plan.profile]

    with patch.object(loading, "reference_results", once):
        yield


@pytest.fixture(scope="module", params=[False, True], ids=["not run", "measured"])
def results_of(request):
    if request.param:
        return made_up.measured
    return lambda p, plan: loading.unmeasured(p, plan, "test", sections.find(plan.notebook).enrich)


@pytest.mark.parametrize(("stem", "changes", "gone"), LEFT_OUT, ids=NAMES)
def test_a_sweep_left_out_is_missing_from_the_plan_and_nothing_else_is(stem, changes, gone):
    _, whole = made_up.build(stem)
    _, plan = made_up.build(stem, **changes)
    assert sweeps(plan) == sweeps(whole) - gone


@pytest.mark.parametrize(
    ("stem", "changes"), SHOWN.values(), ids=[f"{s}-{'-'.join(c)}" for s, c in SHOWN.values()]
)
def test_what_is_left_is_shown_and_told(stem, changes, results_of):
    _, told = show(results_of(*made_up.build(stem, **changes)), stem)
    silent = {call[0] for call, text in told.items() if not text}
    assert silent <= {"price"}, "only a price that is not given has nothing to say"
    assert not [text for text in told.values() if re.search(r"\bnan\b", text)]


def test_commentary_on_a_sweep_that_is_left_out_is_one_sentence_that_names_it(results_of):
    p, plan = made_up.build("02", lengths=[])
    reasons, told = show(results_of(p, plan), "02")
    assert told["over_length",] == "Not part of this plan: sweep `quant_length`."
    assert "'quant_length', of which the table has no row" in reasons["fig10_length"]


@pytest.mark.parametrize(
    ("stem", "changes"),
    [
        ("01", {"grid_model": None, "routing_models": [], "batches": [], "validation_model": None}),
        ("03", {"models": [], "quality_target": None}),
        ("04", {"target": None, "trained_target": None}),
        ("05", {"models": []}),
        ("09", {"formats": [], "vlms": []}),
    ],
)
def test_a_plan_without_a_point_is_refused(stem, changes):
    with pytest.raises(ParameterError, match="no point is left to measure"):
        made_up.build(stem, **changes)


def test_the_overview_plans_nothing_and_is_not_refused():
    section = sections.find("00")
    assert section.plan(section.params()).points == ()
