"""Notebooks: clean as committed, thin, and honest when executed by papermill."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import warm
import yaml
from click.testing import CliRunner
from papermill.cli import papermill as papermill_command

from moebook import sections
from moebook.execute import execute, fold_parameters
from moebook.study import params as parameters
from moebook.workbook import Run

NOTEBOOKS = sorted(Path("notebooks").glob("*.ipynb"))
SMALL = {
    "ffn_dims": [128, 256],
    "expert_counts": [4],
    "active_experts": [1, 2],
    "grid_tokens": 32,
    "grid_batch": 4,
    "comparison_models": ["tiny-qwen2-moe"],
    "comparison_active_experts": [4],
    "comparison_tokens": 32,
    "batches": [1, 2],
    "lengths": [32],
    "validation_model": None,
}


def code_cells(path: Path) -> list:
    return [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_without_outputs_or_traces_of_a_run(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert "papermill" not in notebook.metadata
    for cell in code_cells(path):
        assert (
            not cell.outputs and cell.execution_count is None and "papermill" not in cell.metadata
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_are_thin_and_one_is_tagged_parameters(path):
    cells = code_cells(path)
    tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert all(len(c.source.splitlines()) <= 12 for c in cells if c not in tagged)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_parameters_cell_names_every_parameter_and_leaves_it_to_the_profile(path):
    (cell,) = (c for c in code_cells(path) if "parameters" in c.metadata.get("tags", []))
    names: dict = {}
    exec(cell.source, names)
    section = sections.find(str(path))
    given = {k: v for k, v in names.items() if not k.startswith("__")}
    assert set(given) == set(section.params.model_fields)
    assert {k: v for k, v in given.items() if v is not None} == {
        "profile": "cpu",
        "notebook": path.stem,
    }
    assert all(
        "#" in line for line in cell.source.splitlines() if not line.startswith("notebook")
    ), "each says what it is"
    shipped = parameters.load(section.params, Path("params/cpu", f"{path.stem}.yaml"))
    assert (
        parameters.from_notebook(section.params, names, "nb", headless=True).model_dump()
        == shipped.model_dump()
    )


def test_an_executed_notebook_folds_its_parameters_and_nothing_else(tmp_path):
    file = tmp_path / "notebook.ipynb"
    file.write_bytes(NOTEBOOKS[1].read_bytes())
    fold_parameters(file)
    folded = [c for c in code_cells(file) if c.metadata.get("jupyter", {}).get("source_hidden")]
    assert [c.metadata["tags"] for c in folded] == [["parameters"]]
    assert [c.source for c in code_cells(file)] == [c.source for c in code_cells(NOTEBOOKS[1])]


def test_every_section_has_a_notebook_and_parameters_and_they_have_a_section():
    assert {p.stem for p in NOTEBOOKS} == set(sections.stems())
    for file in Path("params").glob("*/*.yaml"):
        assert sections.find(str(file)).notebook.exists()


def papermill(
    tmp_path: Path, *args: str, stem: str = "01_hyperparameter_scaling"
) -> subprocess.CompletedProcess:
    notebook, out = f"notebooks/{stem}.ipynb", str(tmp_path / "out.ipynb")
    command = ["-m", "papermill", notebook, out, "-k", "python3", "--no-progress-bar", *args]
    return warm.run(command, "warm_cli", timeout=400)


def tracked_changes() -> str:
    return subprocess.run(
        ["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("file", sorted(Path("params").glob("*/*.yaml")), ids=str)
def test_papermill_knows_every_parameter_of_every_shipped_file(file, tmp_path, caplog):
    """By its command in this process: nothing runs that could need one of its own."""
    done = CliRunner().invoke(
        papermill_command,
        [
            f"notebooks/{file.stem}.ipynb",
            str(tmp_path / "out.ipynb"),
            "-f",
            str(file),
            "--prepare-only",
        ],
    )
    assert done.exit_code == 0 and (tmp_path / "out.ipynb").exists()
    assert "unknown parameter" not in caplog.text + done.output


def test_another_devices_profile_shows_the_reference_and_changes_nothing_that_ships(tmp_path):
    before = tracked_changes()
    outputs, stem = tmp_path / "outputs", "05_parallelism"
    given = ("-p", "profile", "4xh200", "-p", "output_root", str(outputs))
    done = papermill(tmp_path, *given, "--cwd", str(tmp_path), stem=stem)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "unknown parameter" not in done.stderr
    text = " ".join(
        o.get("text", "") + o.get("data", {}).get("text/html", "")
        for c in code_cells(tmp_path / "out.ipynb")
        for o in c.outputs
    )
    assert "Nothing is measured: profile '4xh200'" in text
    assert f"params/4xh200/{stem}.yaml" in text, "each value says where it came from"
    folder = outputs / "4xh200" / stem
    assert not (folder / "points").exists() and not (folder / "results.parquet").exists()
    assert list((folder / "figures").glob("*.pdf"))
    assert json.loads((folder / "DONE.json").read_text())["reference"] is True
    assert tracked_changes() == before


def test_where_there_is_nothing_to_show_the_words_alone_are_shown(tmp_path):
    done = papermill(
        tmp_path,
        "-p",
        "profile",
        "h200",
        "-p",
        "output_root",
        str(tmp_path / "out"),
        stem="07_load_balancing",
    )
    assert done.returncode != 0 and "no reference results ship for 07_load_balancing" in done.stderr
    (error,) = [
        o for c in code_cells(tmp_path / "out.ipynb") for o in c.outputs if o.output_type == "error"
    ]
    assert len(error.traceback) == 1


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Notebook 01 by plain papermill on a small parameter file, from nothing: (papermill's end,
    outputs folder)."""
    tmp_path = tmp_path_factory.mktemp("notebook")
    file = tmp_path / "small.yaml"
    file.write_text(
        yaml.safe_dump({**SMALL, "profile": "small", "output_root": str(tmp_path / "outputs")})
    )
    return papermill(tmp_path, "-f", str(file)), tmp_path


@pytest.mark.engine
def test_papermill_measures_draws_and_leaves_a_record(executed):
    done, tmp_path = executed
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "outputs/small/01_hyperparameter_scaling"
    record = json.loads((folder / "DONE.json").read_text())
    assert record["points"] == {"ok": len(list((folder / "points").glob("*.json")))}
    assert {"fig07_ffn_scaling-page", "grid_heatmap-page", "fig05_batch_topk-page"} <= set(
        record["figures"]
    )
    for suffix in ("pdf", "svg", "png", "csv"):
        assert (folder / "figures" / f"grid_heatmap-page.{suffix}").stat().st_size > 100
    assert (folder / "results.parquet").exists() and (folder / "provenance.json").exists()


@pytest.mark.engine
def test_the_executed_notebook_reads_its_figures_with_numbers(executed):
    _, tmp_path = executed
    texts = [
        o.data.get("text/html", "") + o.data.get("text/markdown", "")
        for c in code_cells(tmp_path / "out.ipynb")
        for o in c.outputs
        if o.output_type == "display_data" or o.output_type == "execute_result"
    ]
    said = " ".join(texts)
    assert "From FFN 128 to 256 throughput changes by" in said and "Not drawn" in said
    last = re.search(r"Not in this plan: ([^.]*)\.", said)
    assert last and "method validation" in last[1], "the small file has no validation model"


@pytest.mark.engine
def test_all_points_present_means_no_engine(executed):
    _, tmp_path = executed
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "outputs").rglob("points/*.json")}
    log = next((tmp_path / "outputs").rglob("worker.log")).stat().st_size
    section = sections.find("01")
    Run(section, parameters.load(section.params, tmp_path / "small.yaml")).measure()
    assert before == {
        p: p.stat().st_mtime_ns for p in (tmp_path / "outputs").rglob("points/*.json")
    }
    assert next((tmp_path / "outputs").rglob("worker.log")).stat().st_size == log


def test_a_misspelt_parameter_ends_papermill_before_any_engine(tmp_path):
    done = papermill(
        tmp_path, "-p", "output_root", str(tmp_path / "outputs"), "-p", "ffn_dimz", "128"
    )
    assert done.returncode != 0
    assert "ffn_dimz" in done.stderr and "nearest: 'ffn_dims'" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_plans_and_measures_nothing(tmp_path):
    done = papermill(
        tmp_path, "-p", "output_root", str(tmp_path / "outputs"), "-p", "dry_run", "True"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list((tmp_path / "outputs").rglob("points"))


@dataclass(frozen=True)
class Broken:
    """A section whose notebook is one of tests/bad."""

    notebook: Path
    stem: str = "01_hyperparameter_scaling"
    params: type = sections.find("01").params

    def plan(self, params):
        return sections.find("01").plan(params)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("killed_kernel.ipynb", "Kernel died"),
        ("raises.ipynb", "the cell's own error"),
        ("never_finishes.ipynb", "last cell"),
        ("sleeps.ipynb", "stopped after"),
    ],
)
def test_a_broken_notebook_is_no_success(tmp_path, name, text):
    file = tmp_path / "p.yaml"
    file.write_text(f"output_root: {tmp_path}/outputs\n")
    outcome = execute(
        Broken(Path("tests/bad") / name), file, limit_minutes=0.05 if name == "sleeps.ipynb" else 2
    )
    assert outcome.status == "failed" and not outcome.whole
    assert text in outcome.detail
