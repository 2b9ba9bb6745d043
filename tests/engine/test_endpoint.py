"""A server elsewhere as accelerator: what is timed against servers whose times are known, what is
refused, and that no secret is in anything written or raised."""

import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import warm
from endpoint_servers import (
    TOKEN_S,
    assert_nothing_leaked,
    free_port,
    own_timing,
    serving,
    vllm_serving,
)

from moebook import engine
from moebook.engine import endpoint
from moebook.engine.base import EngineFailed
from moebook.engine.endpoint import access as endpoint_access
from moebook.engine.endpoint.access import KEY, MODEL, TOKENIZER, URL, Access
from moebook.engine.vllm import bench_serve
from moebook.measure import run, store
from moebook.measure.worker import Worker
from moebook.models import catalog
from moebook.models.tiny import family
from moebook.results import table as results
from moebook.study.plan import EngineSettings, Plan, Point, Workload

SECRET = 'sk-Sesame/open+7"Q'  # with what URLs, shells and JSON write differently
WORK = Workload(batch=2, input_tokens=16, output_tokens=8)
WAVE = (
    Path(__file__).parent / "endpoint_wave.json"
)  # of `vllm bench serve` 0.32 and `vllm serve`: 4 requests of 64 + 32
WAVE_WORK = Workload(batch=4, input_tokens=64, output_tokens=32)
# by a client of our own, until one is near: a machine that does other work delays either
MOST_TIMINGS = 12


@pytest.fixture
def at(monkeypatch):
    """Set the environment to an address, with the key and a model."""

    def to(url: str, key: str = SECRET, tokenizer: str = "") -> None:
        for name, value in {URL: url, MODEL: "tiny", TOKENIZER: tokenizer, KEY: key}.items():
            monkeypatch.setenv(name, value)

    return to


@pytest.fixture
def wave() -> dict:
    return json.loads(WAVE.read_text())


def refused(tmp_path) -> EngineFailed:
    with pytest.raises(EngineFailed) as error:
        endpoint.bench(WORK, 2, tmp_path)
    return error.value


def point(label: str, length: int = 16, **changes) -> Point:
    work = Workload(2, length, 8)
    return replace(
        Point(
            "08_accelerator_comparison",
            catalog.load("tiny-mixtral"),
            EngineSettings(),
            work,
            "endpoint",
            2,
            ("endpoint",),
            label,
        ),
        **changes,
    )


def test_without_an_address_the_row_names_the_variables_to_set(monkeypatch, tmp_path):
    for name in (URL, MODEL, KEY):
        monkeypatch.delenv(name, raising=False)
    error = refused(tmp_path)
    assert (
        error.status == "infeasible"
        and URL in str(error)
        and MODEL in str(error)
        and KEY not in str(error)
    )
    monkeypatch.setenv(URL, "http://127.0.0.1:1")
    assert f"set {MODEL}, then" in str(refused(tmp_path))


@pytest.mark.parametrize(
    "url", ["host/v1", "ftp://host", "http://", "http://me:hush@h/v1", "http://h/v1?key=hush"]
)
def test_a_wrong_address_is_told_of_but_not_repeated(at, tmp_path, url):
    at(url)
    error = refused(tmp_path)
    assert (
        error.status == "infeasible"
        and "https://host/v1" in str(error)
        and "hush" not in str(error)
    )


@pytest.mark.parametrize("key", ["☃hush", "hush\nX-Evil: 1", "Bearer hush"])
def test_a_key_that_no_request_can_carry_is_told_of_but_not_repeated(at, tmp_path, key):
    at("http://127.0.0.1:1/v1", key=key)
    error = refused(tmp_path)
    assert error.status == "infeasible" and KEY in str(error) and "hush" not in str(error)


@pytest.mark.parametrize(
    "url,base",
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h/v1/", "http://h/v1"),
        ("https://h/api/paas/v4", "https://h/api/paas/v4"),
    ],
)
def test_the_address_is_that_of_the_api(url, base):
    assert Access.from_environment({URL: url, MODEL: "m"}).url == base
    options = bench_serve.wave(Access(base, "m", "m"), "completions", WORK, 0, Path("x.json"))
    assert (
        options[options.index("--base-url") + 1] + options[options.index("--endpoint") + 1]
        == f"{base}/completions"
    )


def test_no_form_of_a_secret_is_shown():
    access = Access("https://Api.Host:81/v1", "m", "m")
    assert "api.host" not in access.scrub("cannot reach api.host:81")
    keyed = Access("http://h/v1", "m", "m", SECRET)
    for form in (
        SECRET,
        json.dumps(SECRET),
        repr(SECRET),
        "sk-Sesame/open%2B7%22Q",
        "sk-Sesame%2Fopen%2B7%22Q",
        SECRET.lower(),
        f"{SECRET[:10]}…",
    ):
        assert "sesame" not in keyed.scrub(f"key {form} refused").lower()
    assert SECRET not in repr(keyed) and "Host" not in repr(access)
    assert (
        Access("http://llm/v1", "m", "m").scrub("vllm at http://llm/v1")
        == "vllm at http://<endpoint>/v1"
    )


def test_no_number_that_the_host_stands_for_is_shown():
    access = Access("http://localhost:8000/v1", "m", "m")
    numbers = {str(found[4][0]) for found in socket.getaddrinfo("localhost", None)} | {
        "127.0.0.1",
        "::1",
        "10.1.2.3",
    }
    for number in numbers:
        shown = access.scrub(
            f"Connect call failed ('{number}', 8000), [{number}]:8000, {number}: refused; at "
            f"{number}."
        )
        assert number not in shown and shown.count("<endpoint>") == 4
    kept = "12:34:56 vllm 0.26.0, torch 2.13, at::native, std::vector, 1.2.3.4.5, 999.1.2.3"
    assert access.scrub(kept) == kept


def test_a_refused_key_is_a_failed_row_in_the_servers_words_without_the_key(at, tmp_path, capfd):
    with serving("unauthorized") as server:
        at(server.url)
        worker = Worker(engine.load(), tmp_path / "log")
        reply = worker.answer({"op": "endpoint", "workload": asdict(WORK), "repeats": 2})
    assert (
        reply["status"] == "failed"
        and "HTTP 401 Unauthorized: Incorrect API key provided" in reply["reason"]
    )
    assert [key for _, key, _ in server.asked] == [f"Bearer {SECRET}"]
    seen = reply["reason"] + "".join(capfd.readouterr())
    assert (
        "Traceback" in seen
        and "Sesame" not in seen
        and str(server.server_port) not in reply["reason"]
    )


def test_a_redirect_does_not_carry_the_key_elsewhere(at, tmp_path):
    with serving("well") as thief, serving("redirect") as server:
        server.elsewhere = f"{thief.url}/completions"
        at(server.url)
        assert "HTTP 302 Found: moved" in str(refused(tmp_path))
    assert server.asked and not thief.asked


def test_nobody_there_and_nobody_answering(at, tmp_path, monkeypatch):
    at(f"http://127.0.0.1:{free_port()}")
    assert "no answer from the server: ConnectionRefusedError" in str(refused(tmp_path))
    monkeypatch.setattr(endpoint_access, "ANSWER_LIMIT_S", 0.3)
    monkeypatch.setattr("endpoint_servers.Handler.well", lambda self, body: time.sleep(1))
    with serving("well") as server:
        at(server.url)
        assert "TimeoutError" in str(refused(tmp_path))


def test_a_model_that_no_api_knows_fails_and_a_chat_server_is_found(at, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "endpoint_servers.Handler.well", lambda self, _: self.refuse(404, "no model tiny")
    )
    with serving("well") as server, serving("chat_only") as chat:
        at(server.url)
        assert "HTTP 404 Not Found: no model tiny" in str(refused(tmp_path))
        assert Access(chat.url, "tiny", "tiny").probe() == "chat/completions"


def test_a_wave_says_the_same_as_the_benchmarks_own_percentiles(wave):
    assert endpoint.problem_of(wave, WAVE_WORK) is None
    row = endpoint.row(wave)
    for ours, theirs in {"request_ttft": "ttft", "request_e2e": "e2el", "step": "itl"}.items():
        for q in (50, 99):
            assert row[f"{ours}_p{q}_s"] == pytest.approx(wave[f"p{q}_{theirs}_ms"] / 1e3)
    assert [len(steps) for steps in wave["itls"]] == [31] * 4 and row["tokens_per_step"] == 1
    assert max(wave["ttfts"]) <= row["ttft_s"] < row["e2e_s"] <= wave["duration"]
    assert row["e2e_s"] == pytest.approx(wave["duration"], rel=0.05)


def test_a_first_request_sent_late_counts_from_the_waves_start(wave):
    late = {**wave, "start_times": [7.0, 7.0, 9.0, 7.0]}
    assert endpoint.row(late)["ttft_s"] == pytest.approx(2 + wave["ttfts"][2])
    assert endpoint.row(late)["request_ttft_p50_s"] == endpoint.row(wave)["request_ttft_p50_s"]


def test_one_token_has_no_steps(wave):
    row = endpoint.row({**wave, "itls": [[]] * 4, "output_lens": [1] * 4})
    assert (
        row["e2e_s"] == row["ttft_s"] and "step_p50_s" not in row and "tokens_per_step" not in row
    )


@pytest.mark.parametrize(
    "changes,words",
    [
        (
            {"errors": ["Too Many Requests", "", "", "Too Many Requests"]},
            "2 of 4 requests failed: 2 x HTTP 429 Too Many Requests",
        ),
        (
            {"errors": ["", "Traceback\n  File\naiohttp.ClientPayloadError: cut", "", ""]},
            "1 x aiohttp.ClientPayloadError: cut",
        ),
        ({"ttfts": [0.1, 0.0, 0.1, 0.1]}, "1 x no reason given"),
        ({"output_lens": [32, 17, 32, 32]}, "1 of 4 answers have 17 to 32 tokens instead of 32"),
        (
            {"input_lens": [64, 64, 200, 64]},
            "64 to 200 tokens in prompts of 64: set MOEBOOK_ENDPOINT_TOKENIZER",
        ),
    ],
)
def test_a_wave_that_is_not_the_workloads_is_refused_with_its_reason(wave, changes, words):
    assert words in endpoint.problem_of({**wave, **changes}, WAVE_WORK)


def test_another_label_is_another_point_and_no_engine_point_changes():
    assert point("A").key != point("B").key
    assert point("A", method="full").key == point("B", method="full").key


def test_the_machine_that_asks_is_not_taken_for_the_accelerator():
    plan = Plan("08_accelerator_comparison", "cpu", "cpu", (point("CS-3"),))
    record = {
        "status": "ok",
        "reason": None,
        "repeats": [{"ttft_s": 0.1, "e2e_s": 0.2}],
        "facts": {"endpoint_model": "m"},
        "provenance": {
            "device": "this machine",
            "device_kind": "cpu",
            "engine_version": "vllm 0",
            "git_commit": "c",
        },
    }
    row = results.assemble(plan, {plan.points[0].key: record}).iloc[0]
    assert (row.series, row.endpoint_model, row.git_commit, row.e2e_s) == ("CS-3", "m", "c", 0.2)
    assert row[["device", "device_kind", "engine_version", "device_memory_bytes"]].isna().all()


@pytest.fixture(scope="module")
def model(tiny_cache) -> Path:
    """A trained tiny model with its tokenizer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOEBOOK_CACHE", str(tiny_cache))
        patch.delenv("MOEBOOK_TEXT", raising=False)
        yield family.folder("tiny:test/aux-0.01")


@pytest.fixture
def warm_waves(monkeypatch):
    """The process of the waves forked from one that has imported the engine; the live server's is
    started as users' are."""

    def forked(command, input, env, stdout, stderr, text, errors):
        assert command[:2] == [sys.executable, "-m"]
        return warm.run(command[1:], "warm_engine", input=input, env=env, stderr=stderr)

    monkeypatch.setattr(
        endpoint, "subprocess", SimpleNamespace(**{**vars(subprocess), "run": forked})
    )


@pytest.mark.engine
@pytest.mark.parametrize(
    "day,words",
    [
        ("limited", "warm-up: 1 of 2 requests failed: 1 x HTTP 429 Too Many Requests"),
        (
            "disconnect",
            "warm-up: 2 of 2 requests failed: 2 x aiohttp.client_exceptions.ClientPayloadError",
        ),
        ("short", "warm-up: 2 of 2 answers have 4 to 4 tokens instead of 8"),
    ],
)
def test_what_goes_wrong_in_a_wave_is_the_rows_reason(
    at, model, warm_waves, tmp_path, capfd, day, words
):
    with serving(day) as server:
        at(server.url, tokenizer=str(model))
        error = refused(tmp_path)
    assert error.status == "failed" and words in str(error), capfd.readouterr().out
    assert_nothing_leaked([str(error), *capfd.readouterr()], tmp_path)
    waves = 3 if day == "short" else 1  # who refuses is not asked again
    assert len(server.asked) == 1 + waves * WORK.batch


@pytest.mark.engine
def test_a_chat_server_of_known_speed(at, model, warm_waves, tmp_path, monkeypatch):
    seeds = itertools.count(1)
    monkeypatch.setattr(endpoint.secrets, "randbelow", lambda _: next(seeds))
    with serving("chat_only") as server:
        at(server.url, tokenizer=str(model))
        found = endpoint.bench(WORK, 2, tmp_path)
    assert (
        found["facts"]["endpoint_api"] == "chat/completions" and found["facts"]["requests_ok"] == 6
    )
    prompts = [json.dumps(body["messages"]) for _, _, body in server.asked if body.get("stream")]
    assert len(prompts) == len(set(prompts)) == 6, (
        "a prompt sent twice could be answered from a cache"
    )
    assert [row["seed"] for row in found["repeats"]] == [2, 3], "the warm-up had the first"
    for row in found["repeats"]:
        assert row["ttft_s"] >= TOKEN_S and row["e2e_s"] >= 8 * TOKEN_S
        assert row["step_p50_s"] == pytest.approx(TOKEN_S, rel=1) and row["tokens_per_step"] == 1


@pytest.mark.engine
def test_a_live_server_through_the_whole_pipe(at, model, tmp_path, monkeypatch):
    scratch = Path(
        tempfile.mkdtemp(prefix="wave-")
    )  # the engine's sockets have at most 107 characters
    monkeypatch.setenv("TMPDIR", str(scratch))
    plan = Plan("08_accelerator_comparison", "cpu", "cpu", (point("local vLLM", 64, repeats=1),))
    key = "sk-Sesame-7"
    with vllm_serving(model, key, tmp_path / "server.log") as url:
        at(url, key, str(model))
        assert run.measure(plan, tmp_path / "out")["ok"] == 1
        (record,) = store.Store(tmp_path / "out", plan).records().values()
        e2e_s = min(row["e2e_s"] for row in record["repeats"])
        own = [
            own_timing(url, key)
        ]  # the first of a client may be the server's first of a kind, too
        while abs(e2e_s / own[-1] - 1) > 0.7 and len(own) < MOST_TIMINGS:
            own.append(own_timing(url, key))
    assert record["facts"]["requests_ok"] == 4 and record["facts"]["output_tokens_returned"] == 32
    assert record["facts"]["prompt_tokens"] == pytest.approx(64, abs=2)
    table = results.assemble(plan, {record["key"]: record})
    assert len(table) == 1 and not pd.isna(
        table[["ttft_s", "e2e_s", "step_p50_s", "request_e2e_p99_s"]]
    ).any(axis=None)
    assert (table.ttft_s < table.e2e_s).all() and (table.step_p50_s < table.e2e_s).all()
    assert table.e2e_s.min() == e2e_s == pytest.approx(own[-1], rel=0.7), (
        f"timed by a client of our own: {own}"
    )
    assert "Serving Benchmark Result" in next((tmp_path / "out").rglob("worker.log")).read_text()
    (tmp_path / "server.log").unlink()  # the server's own
    assert_nothing_leaked([], tmp_path)
    assert_nothing_leaked([], scratch)
    shutil.rmtree(scratch)
