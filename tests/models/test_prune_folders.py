"""Folders that pruning reads and writes: odd files and links, killed runs, layers that transformers
reads past, and keys of a config that come in lists."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
import tiny_families
import torch
from safetensors.torch import load_file, save_file

from moebook.cli import app
from moebook.models.cache_folder import building
from moebook.models.edit import ImpossibleEdit
from moebook.models.pruning import prune_checkpoint
from moebook.models.pruning.checkpoint import INDEX, CheckpointError, open_checkpoint
from moebook.models.pruning.held import weights_problem
from moebook.models.pruning.saliency import Scores

QUARTER = {"kind": "inter", "ratio": 0.25}
WEIGHTS = "model.safetensors"


@pytest.fixture
def source(tmp_path) -> Path:
    return _saved("mixtral", tmp_path)


def _saved(name: str, tmp_path: Path) -> Path:
    tiny_families.build(name).save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def _rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _configure(folder: Path, **entries) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def _loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def _file(path: Path) -> Path:
    path.write_text("a file")
    return path


@pytest.mark.parametrize(
    "target, words",
    [
        (lambda t: _file(t / "file") / "out", "file is a file; give a folder elsewhere"),
        (lambda t: _loop(t / "loop"), "is no path of a folder|is a link"),
        (lambda t: _loop(t / "loop") / "out", "is no path of a folder|is a file"),
        (lambda t: _file(t / "file"), "exists; give another folder"),
        (lambda t: t / "source" / "out", "one holds the other"),
        (lambda t: Path(f"{t}/a\0b"), "is no path of a folder"),
    ],
)
def test_targets_that_cannot_be_are_told(target, words, source, tmp_path):
    where = target(tmp_path)
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(CheckpointError, match=words):
        prune_checkpoint(source, where, **QUARTER)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_layers_that_predict_further_tokens_belong_to_the_model_where_its_config_says_so(source):
    layers = json.loads((source / "config.json").read_text())["num_hidden_layers"]
    further = {f"model.layers.{layers}.eh_proj.weight": torch.ones(2, 2)}
    _rewrite(source, lambda tensors: tensors.update(further))
    assert "which the model does not have" in weights_problem(open_checkpoint(source), 4)
    _configure(source, num_nextn_predict_layers=1)
    assert weights_problem(open_checkpoint(source), 4) is None


def test_a_target_that_is_a_link_to_nothing(source, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="is a link; give the folder's own path"):
        prune_checkpoint(source, tmp_path / "out", **QUARTER)


def test_overwrite_takes_no_file_that_pruning_did_not_write(source, tmp_path):
    out = tmp_path / "out"
    prune_checkpoint(source, out, **QUARTER)
    (out / "notes.txt").write_text("by hand")
    with pytest.raises(CheckpointError, match="holds notes.txt .1 such files., which pruning did"):
        prune_checkpoint(source, out, **QUARTER, overwrite=True)
    assert (out / "notes.txt").read_text() == "by hand"
    other = tmp_path / "model"
    other.mkdir()
    (other / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="pruning did not write"):
        prune_checkpoint(source, other, **QUARTER, overwrite=True)


@pytest.mark.parametrize("odd", [os.mkfifo, lambda p: p.symlink_to("absent"), _loop])
def test_files_of_the_source_that_are_none_are_told(odd, source, tmp_path):
    odd(source / "odd.txt")
    with pytest.raises(CheckpointError, match="odd.txt is no file"):
        prune_checkpoint(source, tmp_path / "out", **QUARTER)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("odd", [os.mkfifo, lambda p: p.symlink_to("absent"), _loop])
@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_a_config_or_weights_that_are_no_file_are_told(odd, name, source, tmp_path):
    (source / name).unlink()
    odd(source / name)
    with pytest.raises(CheckpointError, match="config.json is missing|has neither"):
        prune_checkpoint(source, tmp_path / "out", **QUARTER)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_links_to_files_are_followed_and_links_to_folders_are_left_out(source, tmp_path):
    (tmp_path / "blob").write_text("tokens")
    (source / "tokenizer.json").symlink_to(tmp_path / "blob")
    (source / "round").symlink_to(source)
    report = prune_checkpoint(source, tmp_path / "out", **QUARTER)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "tokens"
    assert "links to folders: round" in report.notes[-1]
    assert not (tmp_path / "out" / "round").exists()


@pytest.mark.parametrize(
    "weight_map, words",
    [
        ({"a": ["b.safetensors"]}, r"maps a tensor to \['b.safetensors'\]"),
        ({"a": 3}, "maps a tensor to 3"),
        ({"a": "../b.safetensors"}, "no name of a file beside it"),
        ({"a": "absent.safetensors"}, "absent.safetensors is missing, though"),
        (["a"], "has no weight_map"),
    ],
)
def test_an_index_that_names_no_files(weight_map, words, source, tmp_path):
    (source / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=words):
        prune_checkpoint(source, tmp_path / "out", **QUARTER)


def test_weights_without_a_tensor(source, tmp_path):
    save_file({}, source / WEIGHTS)
    with pytest.raises(CheckpointError, match="holds no tensor"):
        prune_checkpoint(source, tmp_path / "out", **QUARTER)


KILLED = """
import os, pathlib, signal, sys
from moebook.models import cache_folder
def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
when, out = sys.argv[1], pathlib.Path(sys.argv[2])
if when == "between":
    class NoExchange:
        renameat2 = None
    cache_folder.ctypes.CDLL = lambda *_, **__: NoExchange
    rename = pathlib.Path.rename
    pathlib.Path.rename = lambda self, to: (rename(self, to), kill())
if when == "after":
    cache_folder.shutil.rmtree = kill
with cache_folder.building(out, replace=True) as partial:
    (partial / "model.safetensors").write_text("new")
    if when == "before":
        kill()
"""


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_a_killed_pruning_leaves_the_old_one_or_the_new_and_the_next_cleans_up(
    when, source, tmp_path
):
    out = tmp_path / "out"
    prune_checkpoint(source, out, **QUARTER)
    before = (out / WEIGHTS).read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, when, out], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(tmp_path.glob(".out.*"))) == (2 if when == "between" else 1)
    with pytest.raises(RuntimeError), building(out, replace=True):
        raise RuntimeError("a failure")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]
    assert (out / WEIGHTS).read_bytes() == (b"new" if when == "after" else before)


def test_a_folder_that_is_being_built_is_left_to_its_process(tmp_path):
    with building(tmp_path / "out") as mine:
        (mine / "file").write_text("one")
        with building(tmp_path / "out") as other:
            (other / "file").write_text("two")
        assert (mine / "file").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "two"


@pytest.mark.parametrize("name", ["deepseek_v2", "deepseek_v3"])
def test_router_groups_stay_whole_or_the_pruning_is_refused(name, tmp_path):
    folder = _saved(name, tmp_path)
    assert prune_checkpoint(folder, tmp_path / "six", **QUARTER).experts_after == 6
    with pytest.raises(ImpossibleEdit, match="num_experts 7 cannot be split into its 2 router"):
        prune_checkpoint(folder, tmp_path / "seven", kind="inter", ratio=0.125)
    assert not (tmp_path / "seven").exists()


def _with_next_token_layer(tensors: dict) -> None:
    """DeepSeek-V3's multi-token prediction: one more layer, with weights of its own beside."""
    layer, after = "model.layers.1.", "model.layers.61."
    same = {n.replace(layer, after): t.clone() for n, t in tensors.items() if n.startswith(layer)}
    tensors |= {**same, f"{after}eh_proj.weight": torch.ones(64, 128)}


@pytest.mark.parametrize("kind", ["inter", "intra"])
def test_layers_that_transformers_reads_past_are_pruned_too(kind, tmp_path):
    folder = _saved("deepseek_v3", tmp_path)
    _rewrite(folder, _with_next_token_layer)
    name = "frequency" if kind == "inter" else "channel_frequency"
    values = np.arange(8.0) if kind == "inter" else np.arange(8 * 48.0).reshape(8, 48)
    scores = Scores({"model.layers.1.mlp": {name: values}}, tokens=1)
    options = {"kind": kind, "ratio": 1 / 3 if kind == "intra" else 0.25}
    by_norm = prune_checkpoint(folder, tmp_path / "norm", **options)
    mixed = prune_checkpoint(
        folder, tmp_path / "mixed", **options, criterion="frequency", scores=scores
    )
    assert "ranked by weight norm: model.layers.61.mlp" in mixed.notes[-1]
    norm, out = (load_file(tmp_path / f / WEIGHTS) for f in ("norm", "mixed"))
    for tensor in (n for n in norm if ".61." in n):
        assert torch.equal(norm[tensor], out[tensor])
        if "eh_proj" not in tensor:
            assert torch.equal(norm[tensor], norm[tensor.replace(".61.", ".1.")])
    if kind == "inter":
        assert mixed.kept_experts["model.layers.1.mlp"] == [1, 2, 3, 5, 6, 7]
        assert (
            by_norm.kept_experts["model.layers.61.mlp"] == mixed.kept_experts["model.layers.61.mlp"]
        )


def test_such_layers_are_refused_where_they_are_unlike_the_others(tmp_path):
    folder = _saved("deepseek_v3", tmp_path)
    name = "model.layers.61.mlp.experts.0.up_proj.weight"
    _rewrite(folder, lambda tensors: tensors.update({name: torch.ones(3, 64)}))
    with pytest.raises(CheckpointError, match=r"61.*\(3, 64\) lies in a layer that transformers"):
        prune_checkpoint(folder, tmp_path / "out", **QUARTER)


def test_lists_with_a_value_for_each_layer_stay_lists(tmp_path):
    """Hunyuan-A13B's config has some of its numbers once for each layer."""
    folder = _saved("hunyuan_v1_moe", tmp_path)
    _configure(folder, moe_topk=[2, 2], moe_intermediate_size=[48, 48])
    prune_checkpoint(folder, tmp_path / "inter", **QUARTER)
    prune_checkpoint(folder, tmp_path / "intra", kind="intra", ratio=1 / 3)
    fewer, narrower = (
        json.loads((tmp_path / kind / "config.json").read_text()) for kind in ("inter", "intra")
    )
    assert fewer["num_experts"] == 6 and fewer["moe_intermediate_size"] == [48, 48]
    assert narrower["intermediate_size"] == 32 and narrower["moe_intermediate_size"] == [32, 32]
    for kind in ("inter", "intra"):
        tiny_families.load(tmp_path / kind, tiny_families.build("hunyuan_v1_moe"))


def test_layers_that_differ_are_refused(tmp_path):
    folder = _saved("hunyuan_v1_moe", tmp_path)
    _configure(folder, moe_intermediate_size=[48, 32])
    with pytest.raises(CheckpointError, match="moe_intermediate_size differs between layers"):
        prune_checkpoint(folder, tmp_path / "out", kind="intra", ratio=1 / 3)


@pytest.mark.parametrize("ratio", ["0.25", "0", "-25", "100", "125", "nan", "1"])
def test_the_command_asks_back_what_would_prune_nothing_or_cannot_be(ratio, source, tmp_path):
    done = CliRunner().invoke(app, ["prune", str(source), str(tmp_path / "out"), "--ratio", ratio])
    assert done.exit_code != 0 and isinstance(done.exception, ValueError), done.output
    assert "ratio" in str(done.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]
