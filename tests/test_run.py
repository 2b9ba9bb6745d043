"""The sweep's loop against a double of the worker's protocol: resume, failures as rows, retries,
locks."""

import fcntl
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from moebook import sections
from moebook.measure import progress, run, schedule, scratch
from moebook.measure.files import Unwritable
from moebook.measure.folder_lock import FolderInUse
from moebook.measure.store import Found, Store
from moebook.results import table as results
from moebook.study.params import build
from moebook.study.plan import point_id

SECTION = sections.find("01")
COUNTS = Path("counts.npz")
REPEATS = [{"ttft_s": 0.1, "e2e_s": e} for e in (1.0, 1.01, 1.02)]


class ScriptedWorker:
    """Answers like WorkerHandle. `at` maps the number of a measure request to a reply, or an
    exception to raise."""

    def __init__(self, at: dict | None = None):
        self.at, self.ops, self.count = at or {}, [], 1

    def ask(self, request: dict, limit_s: float) -> dict:
        self.ops.append(request["op"])
        if request["op"] == "ceilings":
            return {
                "ok": True,
                "ceilings": {
                    "copy_bytes_per_s": 1e10,
                    "matmul_flops_per_s": 1e11,
                    "dtype": "bfloat16",
                },
            }
        if request["op"] != "measure":
            return {"ok": True, "facts": {"engine_start_s": 1.0}}
        told = self.at.get(self.ops.count("measure"))
        if isinstance(told, BaseException):
            raise told
        return told or {"ok": True, "repeats": REPEATS, "peak_memory_bytes": 1}

    def kill(self) -> None:
        self.ops.append("kill")


@pytest.fixture
def plan():
    small = {
        "ffn_dims": [128, 256],
        "expert_counts": [4],
        "active_experts": [1, 2],
        "grid_routings": ["model"],
        "routing_models": [],
        "comparison_models": ["tiny-qwen2-moe"],
        "comparison_active_experts": [1],
        "batches": [1, 2],
        "lengths": [32],
        "validation_model": None,
    }
    return SECTION.plan(build(SECTION.params, small, "test"))


def measure(plan, tmp_path, worker=None, **given):
    worker = worker or ScriptedWorker()
    return run.measure(plan, tmp_path, worker=worker, **given), worker


def table(plan, tmp_path):
    return results.assemble(plan, Store(tmp_path, plan).records()).drop(columns="started_at")


def files(plan, tmp_path):
    return {p.name: p.read_bytes() for p in Store(tmp_path, plan).points_folder.glob("*.json")}


def test_one_file_a_point_and_a_second_run_starts_nothing(plan, tmp_path):
    counts, _ = measure(plan, tmp_path)
    assert counts["ok"] == len(plan.measured) == len(files(plan, tmp_path))
    before = files(plan, tmp_path)
    counts, worker = measure(plan, tmp_path)
    assert counts == {"skipped": len(plan.measured)} and worker.ops == []
    assert files(plan, tmp_path) == before


def test_a_run_with_nothing_to_measure_removes_what_a_killed_worker_left(plan, tmp_path):
    measure(plan, tmp_path)
    left = Path(tempfile.gettempdir()) / f"{scratch.PREFIX}{2**31 - 1}-{tmp_path.name}"
    left.mkdir()  # of no process
    measure(plan, tmp_path)
    assert not left.exists()


def test_cells_that_differ_in_top_k_share_a_build(plan, tmp_path):
    _, worker = measure(plan, tmp_path)
    assert worker.ops.count("start") == plan.num_builds == 3
    assert worker.ops.count("switch") == plan.num_engines - plan.num_builds > 0


def test_interrupted_and_rerun_gives_the_same_table(plan, tmp_path, capsys):
    measure(plan, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        measure(plan, tmp_path / "cut", ScriptedWorker({3: KeyboardInterrupt()}))
    assert "2 of" in capsys.readouterr().out
    kept = files(plan, tmp_path / "cut")
    counts, _ = measure(plan, tmp_path / "cut")
    assert counts["skipped"] == 2 and counts["ok"] == len(plan.measured) - 2
    assert kept.items() <= files(plan, tmp_path / "cut").items()
    one, other = table(plan, tmp_path / "whole"), table(plan, tmp_path / "cut")
    assert one.equals(other)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"ok": False, "status": "oom", "reason": "CUDA out of memory"}, "oom"),
        ({"ok": False, "status": "failed", "reason": "the engine said no"}, "failed"),
        (run.WorkerTimeout("no answer within 1 s"), "timeout"),
        (run.WorkerDied("the worker process ended (signal SIGKILL)"), "failed"),
    ],
)
def test_what_goes_wrong_becomes_a_row_and_the_sweep_goes_on(plan, tmp_path, told, status):
    counts, worker = measure(plan, tmp_path, ScriptedWorker({2: told}))
    assert counts[status] == 1 and counts["ok"] == len(plan.measured) - 1
    bad = table(plan, tmp_path).query("status == @status")
    assert len(bad) == 1 and bad.iloc[0].reason and bad.e2e_s.isna().all()
    following = worker.ops[[i for i, op in enumerate(worker.ops) if op == "measure"][1] + 1]
    assert following == "start", "an engine that failed must not be trusted with the next point"


def test_a_batch_that_would_preempt_leaves_the_engine_alone(plan, tmp_path):
    told = {"ok": False, "status": "oom", "reason": "...: it would preempt sequences"}
    _, worker = measure(plan, tmp_path, ScriptedWorker({1: told}))
    assert worker.ops.count("start") == plan.num_builds


def test_an_engine_that_does_not_start_gives_each_of_its_points_the_reason(plan, tmp_path):
    class NoStart(ScriptedWorker):
        def ask(self, request, limit_s):
            reply = super().ask(request, limit_s)
            return (
                {"ok": False, "status": "failed", "reason": "no such kernel"}
                if request["op"] == "start"
                else reply
            )

    counts, _ = measure(plan, tmp_path, NoStart())
    assert counts["failed"] == len(plan.measured)
    assert set(table(plan, tmp_path).query("status == 'failed'").reason) == {"no such kernel"}


def test_retry_measures_failed_points_again_and_only_those(plan, tmp_path):
    measure(plan, tmp_path, ScriptedWorker({1: {"ok": False, "status": "failed", "reason": "no"}}))
    counts, worker = measure(plan, tmp_path, retry=["failed"])
    assert counts == {"ok": 1, "skipped": len(plan.measured) - 1}
    assert worker.ops.count("measure") == 1


def test_a_row_to_retry_stays_until_there_is_another(plan, tmp_path):
    measure(plan, tmp_path, ScriptedWorker({1: {"ok": False, "status": "failed", "reason": "no"}}))
    before = files(plan, tmp_path)
    counts, _ = measure(plan, tmp_path, retry=["failed"], stop_after_s=-1)
    assert (
        counts == {"not_run": 1, "skipped": len(plan.measured) - 1}
        and files(plan, tmp_path) == before
    )
    assert measure(plan, tmp_path, retry=["failed"])[0]["ok"] == 1
    assert {r["status"] for r in Store(tmp_path, plan).records().values()} == {"ok"}


def test_an_executor_of_its_own_is_told_what_ended_the_run(plan, tmp_path, monkeypatch):
    told = []

    class Broken(run.Local):
        def run(self, points, job):
            raise LookupError

        def __exit__(self, *exc):
            told.append(exc[0])
            super().__exit__(*exc)

    monkeypatch.setattr(run, "Local", Broken)
    with pytest.raises(LookupError):
        measure(plan, tmp_path)
    assert told == [LookupError]


def test_a_retry_of_no_status_names_the_statuses_and_starts_nothing(plan, tmp_path):
    worker = ScriptedWorker()
    with pytest.raises(ValueError, match="faild.*statuses: ok, oom, failed"):
        measure(plan, tmp_path, worker, retry=["faild"])
    assert worker.ops == []


NO_PROVENANCE = b'{"key": "a", "status": "ok", "repeats": [], "provenance": null}'


@pytest.mark.parametrize("damage", [b"", b"{", b'{"key": 1}', b"\xff\xfe", NO_PROVENANCE])
def test_a_damaged_point_file_is_set_aside_and_measured_again(plan, tmp_path, damage, capsys):
    measure(plan, tmp_path)
    path = next(Store(tmp_path, plan).points_folder.glob("*.json"))
    path.write_bytes(damage)
    counts, _ = measure(plan, tmp_path)
    assert counts == {"ok": 1, "skipped": len(plan.measured) - 1}
    assert path.with_suffix(".json.corrupt").read_bytes() == damage
    assert path.name in capsys.readouterr().out


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b"null", b"\xff\xfe"])
def test_damaged_ceilings_are_set_aside_and_measured_again(plan, tmp_path, damage, capsys):
    measure(plan, tmp_path)
    path = Store(tmp_path, plan).folder / "ceilings.json"
    whole = path.read_bytes()
    path.write_bytes(damage)
    _, worker = measure(plan, tmp_path, retry=["ok"])
    assert worker.ops.count("ceilings") == 1 and path.read_bytes() == whole
    assert path.with_suffix(".json.corrupt").read_bytes() == damage
    assert "ceilings.json" in capsys.readouterr().out


def test_whole_ceilings_are_not_measured_twice(plan, tmp_path):
    measure(plan, tmp_path)
    _, worker = measure(plan, tmp_path, retry=["ok"])
    assert "ceilings" not in worker.ops and "measure" in worker.ops


def test_an_unwritable_folder_is_told_before_anything_starts(plan, tmp_path):
    (tmp_path / "cpu").write_text("a file where the folder should be")
    worker = ScriptedWorker()
    with pytest.raises(Unwritable, match="output_root"):
        measure(plan, tmp_path, worker)
    assert worker.ops == []


def test_two_runs_at_once_in_one_folder(plan, tmp_path):
    folder = Store(tmp_path, plan).folder
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FolderInUse, match="another run"):
            measure(plan, tmp_path)


def test_a_plan_of_another_device_is_refused(tmp_path):
    elsewhere = SECTION.plan(build(SECTION.params, {"device": "h100", "profile": "h100"}, "test"))
    with pytest.raises(ValueError, match="h100"):
        measure(elsewhere, tmp_path)


def test_stop_after_begins_no_further_point(plan, tmp_path):
    counts, worker = measure(plan, tmp_path, stop_after_s=-1)
    assert counts["not_run"] == len(plan.measured) and "measure" not in worker.ops


def test_a_number_that_was_changed_after_it_was_written_counts_as_none(plan, tmp_path, capsys):
    measure(plan, tmp_path)
    path = next(Store(tmp_path, plan).points_folder.glob("*.json"))
    record = json.loads(path.read_text())
    record["repeats"][0]["e2e_s"] *= 1.5
    path.write_text(json.dumps(record, separators=(",", ":"), sort_keys=True))
    assert len(Store(tmp_path, plan).records()) == len(plan.measured) - 1
    assert "changed since it was written" in capsys.readouterr().out


def test_points_of_two_devices_are_never_mixed(plan, tmp_path):
    measure(plan, tmp_path)
    folder = Store(tmp_path, plan).points_folder
    first = next(folder.glob("*.json"))
    record = json.loads(first.read_text())
    del record["sha256"]  # as records of before have none
    record["provenance"]["device"] = "another device"
    name = point_id(record["key"], "another device", record["provenance"]["engine_version"])
    (folder / f"{name}.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="several devices"):
        Store(tmp_path, plan).records()
    assert Store(tmp_path, plan).records("another device").keys() == {record["key"]}


def test_a_line_per_point_with_the_time_left(plan, tmp_path, capsys):
    measure(plan, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "left" in line]) == len(plan.measured)
    assert lines[1].startswith(f"[1/{len(plan.measured)}]")


class Machine(ScriptedWorker):
    """One that answers layer and perplexity requests, too, and lacks the kernels and formats in
    `lacks`."""

    def __init__(self, lacks=(), status="infeasible", at: dict | None = None):
        super().__init__(at)
        self.lacks, self.status, self.requests = lacks, status, []

    def ask(self, request: dict, limit_s: float) -> dict:
        self.requests.append(request)
        asked = {
            request.get("backend"),
            request.get("quantization"),
            request.get("settings", {}).get("quantization"),
        }
        if found := asked & set(self.lacks):
            self.ops.append(request["op"])
            return {"ok": False, "status": self.status, "reason": f"no {found.pop()} here"}
        if request["op"] != "layer":
            return super().ask(request, limit_s)
        self.ops.append("layer")
        return {
            "ok": True,
            "repeats": [{"layer_s": s, "layer_graph_s": None} for s in (1e-4, 2e-4, 3e-4)],
            "chosen_backend": request["backend"],
            "moe_config_tuned": None,
            "relative_error": 1e-3,
            "experts_hit": 2,
        }

    def asked_of(self, **wanted) -> list[dict]:
        return [r for r in self.requests if wanted.items() <= r.items()]


@pytest.fixture
def layers():
    small = {
        "layer_models": ["tiny-mixtral", "tiny-qwen2-moe"],
        "layer_tokens": [1, 4, 16],
        "ladder_batches": [1, 4],
        "layer_backends": ["loop", "triton"],
        "ladder": ["fused"],
        "ladder_lengths": [32],
    }
    section = sections.find("06")
    return section.plan(build(section.params, small, "test")).only(
        ["layer", "ladder_batch", "ladder_length"]
    )


@pytest.fixture
def formats(every_format_on_a_cpu):
    section = sections.find("02")
    small = {
        "pair": ["bf16", "fp8"],
        "formats": ["bf16", "fp8", "fp16"],
        "weights": "dummy",
        "batches": [1, 4],
        "formats_batches": [1],
        "lengths": [32],
    }
    return section.plan(build(section.params, small, "test"))


def test_layer_points_start_no_engine(layers, tmp_path):
    counts, worker = measure(layers.only(["layer"]), tmp_path, Machine())
    assert counts["ok"] == 12 and worker.ops == ["ceilings", *["layer"] * 12]


def test_layers_and_engines_of_one_plan(layers, tmp_path):
    counts, worker = measure(layers, tmp_path, Machine())
    assert counts == {"ok": len(layers.measured), "skipped": 0}
    assert worker.ops == [
        "ceilings",
        *["layer"] * 12,
        "start",
        *["measure"] * (len(layers.measured) - 12),
    ]
    own = table(layers, tmp_path).query("method == 'layer'")
    assert (
        len(own) == 36
        and set(own.moe_backend) == {"loop", "triton"}
        and own.engine_start_s.isna().all()
    )


def test_a_kernel_that_the_machine_lacks_is_asked_for_once_per_layer(layers, tmp_path):
    counts, worker = measure(layers, tmp_path, Machine(["triton"]))
    assert counts["infeasible"] == 6 and counts["ok"] == len(layers.measured) - 6
    assert len(worker.asked_of(op="layer", backend="triton")) == 2, "one per model"
    assert len(worker.asked_of(op="layer", backend="loop")) == 6
    bad = table(layers, tmp_path).query("status == 'infeasible'")
    assert len(bad) == 6 and set(bad.reason) == {"no triton here"} and set(bad.batch) == {1, 4, 16}


@pytest.mark.parametrize("status", ["failed", "oom"])
def test_a_layer_that_fails_otherwise_is_asked_for_at_every_point(layers, tmp_path, status):
    counts, worker = measure(layers, tmp_path, Machine(["triton"], status))
    assert counts[status] == 6 and len(worker.asked_of(op="layer", backend="triton")) == 6


def test_a_format_that_the_machine_lacks_is_started_once_and_the_others_run(formats, tmp_path):
    counts, worker = measure(formats, tmp_path, Machine(["fp8"]))
    told = [r["settings"]["quantization"] for r in worker.asked_of(op="start")]
    assert told.count("fp8") == 1 and told.count(None) == 2
    own = [p for p in formats.measured if p.series == "fp8"]
    assert (
        len(own) > 2
        and counts["infeasible"] == len(own)
        and counts["ok"] == len(formats.measured) - len(own)
    )
    bad = table(formats, tmp_path).query("status == 'infeasible' and method != 'perplexity'")
    assert set(bad.reason) == {"no fp8 here"} and set(bad.series) == {"fp8"}


def test_what_was_infeasible_is_asked_again_only_on_demand(layers, tmp_path):
    measure(layers, tmp_path, Machine(["triton"]))
    counts, worker = measure(layers, tmp_path, Machine())
    assert counts == {"skipped": len(layers.measured)} and worker.requests == []
    counts, worker = measure(layers, tmp_path, Machine(), retry=["infeasible"])
    assert counts["ok"] == 6 and len(worker.asked_of(op="layer", backend="triton")) == 6


def test_a_layer_request_has_its_shape_and_no_engine(layers):
    point = next(p for p in layers.points if (p.series, p.workload.batch) == ("fused Triton", 16))
    shape = {"hidden_size": 256, "expert_ffn_dim": 512, "num_experts": 8, "top_k": 2}
    assert schedule.request(point, COUNTS) == {
        "op": "layer",
        "shape": shape,
        "dtype": "float32",
        "quantization": None,
        "backend": "triton",
        "skew": None,
        "seed": 0,
        "tokens": 16,
        "repeats": 3,
    }
    quantized = replace(point, engine=replace(point.engine, quantization="fp8", moe_backend=None))
    assert {
        **schedule.request(point, COUNTS),
        "quantization": "fp8",
        "backend": "auto",
    } == schedule.request(quantized, COUNTS)


def test_a_perplexity_request_has_its_text(formats):
    point = replace(
        next(p for p in formats.points if p.method == "perplexity"),
        text="held_out.txt",
        status="ready",
    )
    assert schedule.request(point, COUNTS) == {
        "op": "read",
        "method": "perplexity",
        "text": "held_out.txt",
        "repeats": 3,
        "counts_file": str(COUNTS),
        "workload": asdict(point.workload),
    }
    other = next(p for p in formats.points if p.method == "full")
    assert set(schedule.request(other, COUNTS)) == {"op", "workload", "method", "repeats"}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (
            {
                "status": "ok",
                "repeats": [{"layer_s": s, "layer_graph_s": None} for s in (3e-4, 1.234e-4, 2e-4)],
            },
            "200 µs",
        ),
        (
            {"status": "ok", "repeats": [{"perplexity": v} for v in (6.126, 6.1, 6.2)]},
            "perplexity 6.13",
        ),
        ({"status": "ok", "repeats": REPEATS}, "E2E 1010.0 ms"),
        (
            {"status": "infeasible", "reason": "no triton here", "repeats": []},
            "infeasible (no triton here)",
        ),
    ],
)
def test_the_outcome_of_a_point_is_its_median_or_its_reason(record, told):
    assert progress.outcome(record) == told


def test_a_title_names_the_model_the_series_and_the_work(layers, formats):
    point = next(p for p in layers.points if (p.series, p.workload.batch) == ("fused Triton", 16))
    assert progress.title(point) == "tiny-mixtral fused Triton 16 tokens"
    quality = next(p for p in formats.points if p.method == "perplexity" and p.series == "fp8")
    assert progress.title(quality) == "tiny-mixtral fp8 B=12 256+1 perplexity"
    engine = next(p for p in formats.points if p.method == "full" and p.series == "bf16")
    assert progress.title(replace(engine, series="")) == "tiny-mixtral B=1 8+8 full"


def test_every_layer_point_has_its_line(layers, tmp_path, capsys):
    measure(layers, tmp_path, Machine(["triton"]))
    out = capsys.readouterr().out
    assert "tiny-mixtral expert loop 16 tokens: 200 µs;" in out
    assert out.count("infeasible (no triton here);") == 6


def test_a_further_record_is_another_engine_start_in_the_reverse_order_of_builds(plan, tmp_path):
    measure(plan, tmp_path)
    counts, worker = measure(plan, tmp_path, record=2)
    assert counts["ok"] == len(plan.measured) and worker.ops.count("start") == plan.num_builds
    found = Store(tmp_path, plan).found()
    assert {key: len(own) for key, own in found.further.items()} == dict.fromkeys(found.records, 1)
    written = sorted(Store(tmp_path, plan).records_folder.glob("*/2.json"), key=_modified)
    first, last = plan.measured[0].build_key, plan.measured[-1].build_key
    by_key = {point.key: point.build_key for point in plan.measured}
    order = [by_key[json.loads(path.read_text())["key"]] for path in written]
    assert (order[0], order[-1]) == (last, first)
    rows = results.assemble(plan, found.records, found.further)
    assert set(rows["record"].dropna()) == {1, 2} and rows["host"].notna().all()
    assert measure(plan, tmp_path, record=2)[0] == {"skipped": len(plan.measured)}


def _modified(path):
    return path.stat().st_mtime_ns


def test_records_go_on_in_their_order_and_only_of_points_with_a_number(plan, tmp_path):
    measure(plan, tmp_path, ScriptedWorker({1: {"ok": False, "status": "oom", "reason": "full"}}))
    assert measure(plan, tmp_path, record=3)[0] == {"skipped": len(plan.measured)}
    assert measure(plan, tmp_path, record=2)[0]["ok"] == len(plan.measured) - 1
    assert measure(plan, tmp_path, record=3)[0]["ok"] == len(plan.measured) - 1


def test_further_records_are_set_aside_with_their_device(plan, tmp_path):
    measure(plan, tmp_path)
    measure(plan, tmp_path, record=2)
    store = Store(tmp_path, plan)
    ((device, _),) = store.sources()
    moved = store.discard(device)
    assert len(moved) == len(set(moved)) == 2 * len(plan.measured)
    assert store.found() == Found()
