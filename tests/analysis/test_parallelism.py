"""Section 5's arithmetic: collectives, compositions between their bounds, and claims that say what
was only composed."""

import json

import numpy as np
import pandas as pd
import parallel_tables as t
import pytest

from moebook import sections
from moebook.models import catalog
from moebook.models.one_rank import ONE
from moebook.predict.communication import Links, NoLinks, links_of, read_tables
from moebook.results import verdicts as claims
from moebook.results.loading import architecture_of
from moebook.sections.parallelism import enrich
from moebook.sections.parallelism import plan as parallelism
from moebook.study.params import build

MIXTRAL, OLMOE = "Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125"
RATE = 4.5e11
TABLE = {
    "device": "synthetic",
    "backend": "nccl",
    "rows": [
        {"op": op, "ranks": 2, "bytes": n, "seconds": latency + n / 1e11}
        for op, latency in (
            ("all_reduce", 2e-5),
            ("all_reduce in graph", 1e-5),
            ("all_gather", 3e-5),
            ("send", 4e-5),
        )
        for n in (1024, 2**20, 2**24)
    ],
}


def measured() -> Links:
    return links_of(
        "h100",
        "synthetic",
        [
            TABLE,
            {
                **TABLE,
                "device": "another",
                "rows": [{"op": "all_reduce", "ranks": 2, "bytes": 1024, "seconds": 99.0}],
            },
        ],
    )


@pytest.mark.parametrize(
    ("op", "ranks", "share"),
    [("all_reduce", 2, 1.0), ("all_reduce", 4, 1.5), ("all_gather", 4, 0.75), ("send", 4, 1.0)],
)
def test_published_rates_give_ring_times_without_latency(op, ranks, share):
    links = Links("h100")
    assert links.seconds(op, 1e9, ranks) == pytest.approx(share * 1e9 / RATE)
    assert "450 GB/s one way, without latency" in links.told(ranks) and "datasheet" in links.told(
        ranks
    )


def test_a_kind_without_a_published_rate_says_what_to_do():
    with pytest.raises(NoLinks, match="'cpu': measure them with benchmarks/collectives.py"):
        Links("cpu").seconds("all_reduce", 1, 2)


def test_a_table_of_this_device_is_interpolated_and_goes_on_at_its_last_rate():
    links = measured()
    assert links.seconds("all_reduce", 2**19, 2) == pytest.approx(2e-5 + 2**19 / 1e11, rel=1e-6)
    assert links.seconds("all_reduce", 2**30, 2) == pytest.approx(64 * (2e-5 + 2**24 / 1e11))
    assert links.seconds("all_reduce", 10, 2) == pytest.approx(2e-5 + 1024 / 1e11)
    assert links.told(2) == "measured over 2 ranks (synthetic, nccl)"


def test_decode_takes_the_times_of_graphs_where_there_are_some():
    assert measured().seconds("all_reduce", 1024, 2, in_graph=True) == pytest.approx(
        1e-5 + 1024 / 1e11
    )
    share = (1e-5 + 1024 / 1e11) / (2e-5 + 1024 / 1e11)
    assert measured().seconds("all_gather", 1024, 2, in_graph=True) == pytest.approx(
        share * (3e-5 + 1024 / 1e11)
    )
    assert measured().seconds("send", 1024, 2, in_graph=True) == pytest.approx(4e-5 + 1024 / 1e11)


def test_ranks_that_a_table_lacks_are_scaled_latency_and_rate_apart():
    latency = 2e-5 + 1024 / 1e11
    rest = 2e-5 + 2**24 / 1e11 - latency
    assert measured().seconds("all_reduce", 2**24, 4) == pytest.approx(3 * latency + 1.5 * rest)
    assert "scaled to 4 by the ring formula" in measured().told(4)


def test_tables_are_read_from_every_profile_and_others_are_refused(tmp_path):
    folder = tmp_path / "2xh100" / "05_parallelism"
    folder.mkdir(parents=True)
    (folder / "collectives.json").write_text(json.dumps(TABLE))
    assert [table["device"] for table in read_tables([tmp_path], "05_parallelism")] == ["synthetic"]
    (folder / "collectives.json").write_text('{"rows": [{}]}')
    with pytest.raises(ValueError, match="collectives.json holds no table"):
        read_tables([tmp_path], "05_parallelism")


def test_a_step_under_tensor_parallelism_reduces_twice_a_layer_and_olmoe_gathers_besides():
    mixtral, olmoe = catalog.load(MIXTRAL), catalog.load(OLMOE)
    for mode in ("TP", "TP+EP"):
        reduces, logits = ("all_reduce", 100 * 4096 * 2, 65), ("all_gather", 7 * 32000 * 2, 1)
        assert enrich.collectives(mixtral, mode, 4, 100, 7) == [reduces, logits]
    assert (
        enrich.collectives(olmoe, "TP", 2, 10, 10)[2:]
        == [("all_gather", 10 * 16 * 128 * 2, 16)] * 2
    )
    assert enrich.collectives(mixtral, "PP+EP", 4, 100, 7) == [("send", 2 * 100 * 4096 * 2, 3)]


def test_prefill_goes_in_chunks_and_moves_the_same_bytes():
    arch, links = catalog.load(MIXTRAL), Links("h100")
    once, twice = (enrich.prefill_s(links, arch, "TP", 2, b, 2048, 2) for b in (8, 16))
    assert twice == pytest.approx(2 * once)
    slow = measured()
    assert enrich.prefill_s(slow, arch, "TP", 2, 16, 2048, 2) > 2 * 65 * 2e-5


@pytest.fixture(scope="module")
def one_device():
    return t.composed("h200", measured())


def row(
    table,
    mode: str,
    devices: int,
    model: str = OLMOE,
    method: str = enrich.COMPOSED,
    batch: int = 16,
):
    own = table[
        (table["model"] == model)
        & (table["series"] == mode)
        & (enrich.with_devices(table)["devices"] == devices)
        & (table["method"] == method)
        & (table["batch"] == batch)
    ]
    assert len(own) == 1
    return own.iloc[0]


def rank(table, series: str, batch: int = 16, model: str = OLMOE):
    own = table[(table["model"] == model) & (table["series"] == series) & (table["batch"] == batch)]
    assert len(own) == 1
    return own.iloc[0]


def test_every_planned_mode_gets_a_composed_row(one_device):
    composed = one_device[one_device["method"] == enrich.COMPOSED]
    planned = one_device[
        one_device["series"].isin(("TP", "TP+EP", "PP", "PP+EP"))
        & (one_device["method"] != enrich.COMPOSED)
    ]
    assert len(composed) == len(planned) == 20 and set(composed["sweeps"]) == {"composed"}
    assert set(composed["status"]) == {"ok"} and composed["key"].is_unique
    assert one_device.loc[one_device["series"] == ONE, "sweeps"].str.endswith("composed").all()


@pytest.mark.parametrize(("mode", "devices"), [("TP", 2), ("TP", 4), ("TP+EP", 2)])
def test_tensor_parallel_is_a_rank_and_its_communication(one_device, mode, devices):
    got, alone = row(one_device, mode, devices), rank(one_device, f"rank of {mode} {devices}")
    arch = catalog.load(OLMOE)
    step = enrich.step_s(measured(), arch, mode, devices, 16, 2)
    prefill = enrich.prefill_s(measured(), arch, mode, devices, 16, 2048, 2)
    assert step > 0 and prefill > 0
    assert got["tpot_s"] == pytest.approx(alone["tpot_s"] + step)
    assert got["ttft_s"] == pytest.approx(alone["ttft_s"] + prefill)
    assert (got["compute_tpot_s"], got["comm_tpot_s"]) == pytest.approx((alone["tpot_s"], step))
    assert got["e2e_s"] == pytest.approx(got["ttft_s"] + 2047 * got["tpot_s"])
    assert got["throughput_tok_s"] == pytest.approx(16 * 4096 / got["e2e_s"])
    assert (
        got["tpot_s_lo"] == pytest.approx(alone["tpot_s_lo"] + step)
        and got["e2e_s_lo"] < got["e2e_s"] < got["e2e_s_hi"]
    )


@pytest.mark.parametrize("devices", [2, 4])
def test_a_pipeline_lies_between_serial_and_filled(one_device, devices):
    got = row(one_device, "PP", devices)
    serial, filled = (rank(one_device, f"rank of PP {devices}", b) for b in (16, 16 // devices))
    sends = [
        enrich.step_s(measured(), catalog.load(OLMOE), "PP", devices, b, 2)
        for b in (16, 16 // devices)
    ]
    ends = devices * serial["tpot_s"] + sends[0], devices * filled["tpot_s"] + sends[1]
    assert got["tpot_s"] == pytest.approx(sum(ends) / 2)
    assert got["tpot_s_hi"] == pytest.approx(devices * serial["tpot_s_hi"] + sends[0])
    assert got["tpot_s_lo"] == pytest.approx(devices * filled["tpot_s_lo"] + sends[1])
    same = row(one_device, "PP+EP", devices)
    assert same["e2e_s"] == got["e2e_s"] and same["expert_parallel"] and not got["expert_parallel"]


def test_a_rounded_rank_says_so(one_device):
    assert "0.5 of a token's 2 expert choices" in row(one_device, "TP+EP", 4, MIXTRAL)["rounding"]
    assert pd.isna(row(one_device, "TP+EP", 2, MIXTRAL)["rounding"])


def test_without_links_the_compute_stands_and_nothing_else():
    table = t.composed("cpu", Links("cpu"), ("synthetic", "cpu"))
    rows = table[table["method"] == enrich.COMPOSED]
    assert (
        set(rows["status"]) == {"not_run"}
        and rows["reason"].str.contains("benchmarks/collectives.py").all()
    )
    assert rows["compute_tpot_s"].notna().all()
    assert rows[["comm_tpot_s", "tpot_s", "e2e_s", "throughput_tok_s"]].isna().all(axis=None)


def test_a_rank_that_was_not_measured_leaves_its_reason():
    table = t.composed("h200", measured(), without="rank of TP 4")
    lost = row(table, "TP", 4)
    assert (lost["status"], lost["reason"]) == ("not_run", "its rank alone: not measured yet")
    assert np.isnan(lost["throughput_tok_s"]) and row(table, "TP", 2)["status"] == "ok"


def test_another_sections_summary_is_left_alone():
    table = t.summary("h200")
    other = table[~table["series"].str.startswith("rank of")]
    assert enrich.add_composed(other, ["nowhere"], architecture_of(t.plan("h200"))) is other


def test_composed_rows_carry_the_devices_of_a_table_beside_them(tmp_path):
    folder = tmp_path / "2xh200" / enrich.NOTEBOOK
    folder.mkdir(parents=True)
    (folder / "collectives.json").write_text(json.dumps(TABLE))
    table = enrich.add_composed(t.summary("h200"), [tmp_path], architecture_of(t.plan("h200")))
    assert row(table, "TP", 2)["comm_from"] == "measured over 2 ranks (synthetic, nccl)"


def test_efficiency_is_over_one_device_of_the_same_model(one_device):
    rows = enrich.over_devices(one_device)
    assert (
        set(rows["batch"]) == {16}
        and not rows.duplicated(["model", "series", "devices", "method"]).any()
    )
    got, alone = row(rows, "TP", 4), row(rows, ONE, 1, method="sampled")
    assert got["efficiency_pct"] == pytest.approx(
        100 * got["throughput_tok_s"] / (4 * alone["throughput_tok_s"])
    )
    assert not (rows["status"] == "infeasible").any()


def test_errors_pair_what_was_run_with_what_was_composed():
    table = t.composed("4xh200", measured())
    errors = enrich.errors(table)
    assert len(errors) == 20
    own = row(errors, "TP", 4, method="sampled")
    composed = row(table, "TP", 4)
    assert own["error_pct"] == pytest.approx(100 * (composed["e2e_s"] / own["e2e_s"] - 1))


def verdicts(table) -> dict:
    return {
        v.id: v for v in claims.evaluate(table, sections.claims(), checks=False) if v.section == 5
    }


def test_runs_decide_and_compositions_do_not():
    run = verdicts(t.composed("4xh200", measured()))
    composed = verdicts(t.composed("h200", measured()))
    assert {k: v.verdict for k, v in run.items()} == dict.fromkeys(
        ("tp-scales", "tp-beats-ep", "pp-flat"), "supported"
    )
    assert {v.verdict for v in composed.values()} == {"untested"}
    assert all("composed ones decide nothing" in v.reason for v in composed.values())


def test_the_exponent_is_that_of_the_planted_times():
    table = t.composed("4xh200", measured())
    one, four = (
        [
            row(table, mode, devices, model, "sampled")["throughput_tok_s"]
            for model in (MIXTRAL, OLMOE)
        ]
        for mode, devices in ((ONE, 1), ("TP", 4))
    )
    wanted = np.log(np.array(four) / np.array(one)) / np.log(4)
    found = verdicts(table)["tp-scales"]
    assert sorted(cell.value for cell in found.parts[0].cells) == pytest.approx(sorted(wanted))
    assert found.effect == pytest.approx(min(wanted))
    assert verdicts(table)["tp-beats-ep"].effect == pytest.approx(100 * (1.10 / 1.25 - 1))


def test_two_devices_are_told_to_be_two():
    two = verdicts(t.composed("2xh100", measured()))
    assert all("devices 2 (source 4)" in v.conditions for v in two.values())


def test_claims_without_any_number_say_why():
    table = t.summary("h100")
    assert verdicts(table)["tp-scales"].verdict == "untested"
    assert "needs 2 devices, this profile has 1" in verdicts(table)["tp-scales"].reason


def test_ranks_of_a_cpu_add_no_device_and_decide_nothing():
    table = t.composed("cpu", Links("cpu"), ("synthetic", "cpu"))
    found = verdicts(table)
    assert {v.verdict for v in found.values()} == {"untested"}
    assert all("share its cores" in v.reason for v in found.values())
    assert set(enrich.over_devices(table)["added"]) == {1}


def test_models_of_ones_own_are_composed_from_their_own_shapes(tmp_path):
    """A folder that no catalog knows, one named as a published model, and two of one name."""
    made = {
        tmp_path / "my-moe": {},
        tmp_path / "data" / "OLMoE-1B-7B-0125": {"hidden_size": 512},
        tmp_path / "a" / "snapshot": {"num_hidden_layers": 2},
        tmp_path / "b" / "snapshot": {"num_hidden_layers": 8},
    }
    for folder, given in made.items():
        folder.mkdir(parents=True)
        config = {**catalog.load("tiny-mixtral").hf_config(), **given}
        (folder / "config.json").write_text(json.dumps(config))
    given = {"models": [str(f) for f in made], "modes": ["TP"], "batches": [8], "tp_batches": [8]}
    plan = parallelism.plan(build(parallelism.Params, given, "a test"))
    summary = t.summary_of(plan, ("synthetic", "h100"))
    table = enrich.with_composed(summary, Links("h100"), architecture_of(plan))
    composed = table[(table["method"] == enrich.COMPOSED) & (table["status"] == "ok")]
    assert set(composed["model"]) == {
        "my-moe",
        "data/OLMoE-1B-7B-0125",
        "a/snapshot",
        "b/snapshot",
    }
    sent = composed.set_index("model")["comm_tpot_s"]
    links, arch = Links("h100"), catalog.load("tiny-mixtral")
    assert sent["my-moe"] == pytest.approx(enrich.step_s(links, arch, "TP", 2, 8, 4))
    assert sent["a/snapshot"] < sent["my-moe"] < sent["b/snapshot"]
    assert sent["my-moe"] < sent["data/OLMoE-1B-7B-0125"]
