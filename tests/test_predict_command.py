"""`moebook predict`: its table, its JSON, what it refuses, and that it stays light."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from moebook import cli
from moebook.models import catalog
from moebook.predict.what_if import predict
from moebook.study.settings import EngineSettings, Workload

KEYS = {
    "model", "device", "gpus", "batch", "input_tokens", "output_tokens", "ttft_s", "tpot_s",
    "throughput_tok_s", "output_throughput_tok_s", "memory_bytes_per_gpu", "kv_tokens", "fits",
}  # fmt: skip
TIMED = ("ttft_s", "tpot_s", "throughput_tok_s", "output_throughput_tok_s")
OLMOE = "OLMoE-1B-7B-0125"


def called(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, ["predict", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_json_has_the_named_keys_and_the_librarys_numbers():
    rows = json.loads(called(OLMOE, "--batch", "1,16", "--input", "512", "--json"))
    assert [row["batch"] for row in rows] == [1, 16]
    for row in rows:
        assert row.keys() >= KEYS
        for name in TIMED:
            assert row[f"{name}_lo95"] < row[name] < row[f"{name}_hi95"]
    settings = EngineSettings(quantization="own", graphs="default", routing="uniform")
    told = predict(catalog.load(OLMOE), settings, Workload(16, 512, 256), "h200")
    assert rows[1]["tpot_s"] == told.tpot_s.value and rows[1]["fits"] is True
    assert rows[1]["memory_bytes_per_gpu"] == told.memory.per_gpu_bytes


def test_one_output_token_has_no_tpot():
    (row,) = json.loads(called(OLMOE, "--batch", "2", "--output", "1", "--json"))
    assert row["tpot_s"] is None and row["tpot_s_hi95"] is None
    assert row["ttft_s"] == pytest.approx(row["e2e_s"])


def test_the_table_says_what_binds_how_sure_it_is_and_what_it_leans_on():
    text = called("Mixtral-8x7B-v0.1", "--device", "h100", "--gpus", "2", "--explain")
    for words in (
        "2 x h100 (TP 2",
        "reading experts",
        "communication",
        "other weights",
        "latency of a pass",
        "how sure: 16-bit on h100",
        "80 and 95 % intervals held",
        "TTFT 8",
        "nearest measured points",
        "tokens of cache",
    ):
        assert words in text  # fmt: skip
    assert "NO" in called("Mixtral-8x7B-v0.1", "--device", "h100", "--batch", "1")


def test_what_widens_an_interval_is_told_in_table_and_json():
    asked = ("MolmoE-1B-0924", "--batch", "16,4096", "--input", "128")
    text = called(*asked)
    assert "batch 16: family molmo was not measured" in text
    assert "batch 4096: batch 4096 is outside what was measured (1 to 128)" in text
    inside, outside = json.loads(called(*asked, "--json"))
    assert 1 < inside["times_as_wide"] < outside["times_as_wide"]
    assert any("batch 4096 is outside" in note for note in outside["notes"])
    assert inside["coverage"]["tpot"]["80"] > 0.7 and inside["coverage"]["ttft"]["95"] > 0.8


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--format", "fp9"], "--format: given 'fp9'; allowed: bf16"),
        (["--batch", "1,x"], "--batch: given '1,x'; allowed: whole numbers"),
        (["--gpus", "4", "--tp", "2"], "--gpus: given 4, but TP 2 x PP 1 are 2"),
        (["--tp", "0"], "--tp: given 0; allowed: 1 or more"),
        (["--output", "0"], "--output: given 0"),
        (["--routing", "zip"], "--routing: given 'zip'; allowed: model, uniform"),
        (["--graphs", "eager"], "--graphs: given 'eager'; allowed: default"),
        (["--device", "b200"], "no calibration for device 'b200'; allowed: h100, h200"),
        (["--input", "5000"], "4096 positions"),
    ],
)
def test_wrong_input_is_named_with_what_is_allowed(arguments, words):
    with pytest.raises(ValueError, match=words):
        called(OLMOE, *arguments)


def test_a_catalog_model_needs_no_heavy_package():
    program = (
        "import sys; from moebook.cli import app\n"
        f"try: app(['predict', {OLMOE!r}, '--json'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'vllm', 'pandas', 'scipy') "
        "if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "[]", done.stderr


def test_a_device_is_known_in_any_case():
    assert called(OLMOE, "--device", "H200", "--batch", "1") == called(OLMOE, "--batch", "1")


def test_what_was_not_given_is_not_quoted():
    done = CliRunner().invoke(cli.app, ["predict"])
    assert done.exit_code == 2 and "given ''" not in done.output and "model" in done.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["DeepSeek-V3", "--batch", "1,64"], "batch 1 does not fit: weights and reserve exceed a"),
        (["Mixtral-8x7B-v0.1", "--batch", "16,1000"], "batch 1000 does not fit: its cache exceeds"),
    ],
)
def test_what_does_not_fit_is_told_with_the_cards_that_hold_it(arguments, why):
    text = called(*arguments)
    assert why in text
    ranks = text.partition("with --tp ")[2].split()[0]
    assert " NO" in text and "does not fit" not in called(*arguments, "--tp", ranks)
