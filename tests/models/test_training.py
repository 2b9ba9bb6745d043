"""Training: what a member's record says, a cut run that goes on as if it had not been cut, and that
something is learnt."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import tiny_family

torch = pytest.importorskip("torch")
from moebook.models import sizes  # noqa: E402
from moebook.models.tiny import family as tiny  # noqa: E402
from moebook.models.tiny import train_family, train_member  # noqa: E402
from moebook.models.tiny.recipes import PRESETS  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def family(tmp_path_factory):
    with tiny_family.trained(tmp_path_factory.mktemp("cache")) as folder:
        yield folder


class Cut(Exception):
    pass


def train(folder, member: str, cut_at: int | None = None) -> dict:
    """A second training of a member, in another folder with the family's corpus."""
    if not (folder / "corpus").exists():
        (folder / "corpus").symlink_to(tiny.family_folder("test") / "corpus")

    def say(line: str) -> None:
        if cut_at and f"step {cut_at}/" in line:
            raise Cut

    train_member.Training("test", member, folder, say).run()
    return json.loads((folder / member / tiny.RECORD).read_text())


@pytest.mark.parametrize("member", tiny_family.MEMBERS)
def test_a_member_learns_more_than_token_frequencies(member):
    found = tiny.record(f"tiny:test/{member}")
    for domain in ("all", "code", "prose", "numbers"):
        assert found["perplexity"][domain] < found["unigram_perplexity"][domain]
    assert found["perplexity"]["all"] < 0.9 * found["unigram_perplexity"]["all"]
    assert found["loss"][0][1] == pytest.approx(math.log(1024), abs=0.2)


@pytest.mark.parametrize("member", tiny_family.MEMBERS)
def test_the_checkpoint_holds_the_parameters_that_the_config_speaks_of(member):
    from safetensors import safe_open

    name = f"tiny:test/{member}"
    with safe_open(tiny.folder(name) / "model.safetensors", "pt") as file:
        held = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    assert (
        held == sizes.total_parameters(tiny.architecture(name)) == tiny.record(name)["parameters"]
    )
    assert (
        json.loads((tiny.folder(name) / "config.json").read_text())
        == tiny.architecture(name).config
    )


@pytest.mark.parametrize("member", ["aux-0.01", "loss-free"])
def test_a_cut_run_ends_as_an_uncut_one(tmp_path, member, monkeypatch):
    """Cut after step 30 of 60, its last checkpoint being that of step 25."""
    with pytest.raises(Cut):
        train(tmp_path, member, cut_at=30)
    assert not (tmp_path / member).exists() and (tmp_path / f".{member}.checkpoint.pt").exists()
    again, first = train(tmp_path, member), tiny.record(f"tiny:test/{member}")
    assert again["loss"] == first["loss"] and again["load"] == first["load"]
    assert again["perplexity"] == first["perplexity"]
    monkeypatch.setattr(
        tiny, "record", {"first": first, "again": again, "other": {**first, "loss": []}}.get
    )
    assert tiny.training_id("first") == tiny.training_id("again") != tiny.training_id("other")
    monkeypatch.undo()
    assert not (tmp_path / f".{member}.checkpoint.pt").exists()
    assert (tmp_path / member / "model.safetensors").read_bytes() == (
        tiny.folder(f"tiny:test/{member}") / "model.safetensors"
    ).read_bytes()


def test_the_record_of_routing_counts_every_choice():
    found, preset = tiny.record("tiny:test/aux-0.01"), PRESETS["test"]
    shape = preset.members["aux-0.01"].shape
    counts = np.array(found["load"]["counts"])
    assert counts.shape == (len(found["load"]["steps"]), shape.layers, shape.experts)
    assert (counts.sum(-1) == preset.load_windows * preset.window * shape.top_k).all()
    assert found["load"]["steps"][0] == 0 and found["load"]["steps"][-1] == found["steps"] == 60
    assert tiny.record("tiny:test/draft-small")["load"] == {"steps": [], "counts": []}


def test_the_bias_was_trained_and_is_saved():
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny.folder("tiny:test/loss-free"))
    bias = torch.stack(
        [layer.mlp.gate.moe_statics.e_score_correction_bias[0] for layer in model.model.layers]
    ).detach()
    step = PRESETS["test"].members["loss-free"].bias_step
    assert bias.abs().max() > 3 * step
    assert (bias / step).sub((bias / step).round()).abs().max() < 1e-3


def test_windows_are_those_of_the_step_and_mix_the_domains():
    one = train_member.Training("test", "aux-0.01", tiny.family_folder("test"))
    other = train_member.Training("test", "draft-small", tiny.family_folder("test"))
    assert one._batch(7).equal(other._batch(7)) and not one._batch(7).equal(one._batch(8))
    assert set(one.streams) == {"code", "prose", "numbers"}


def test_the_learning_rate_rises_and_falls():
    rates = [train_member.rate(step, 100, 0.1) for step in range(100)]
    assert (
        rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == 1 and 0.05 <= rates[-1] < 0.06
    )
    assert train_member.load_steps(240) == [0, 2, 4, 8, 15, 30, 60, 120, 240]


def test_a_gpu_preset_needs_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="preset 'gpu' trains on a CUDA device.*--preset cpu"):
        train_family.train_family("gpu")


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("training.json", b'{"loss": [', "JSONDecodeError"),
        ("training.json", b"{}", "has no loss"),
        ("training.json", None, "FileNotFoundError"),
        ("config.json", None, "FileNotFoundError"),
        ("model.safetensors", b"half", "SafetensorError"),
        ("model.safetensors", None, "no weights"),
    ],
)
def test_a_damaged_member_is_seen(tmp_path, file, content, why):
    member = tmp_path / "aux-0.01"
    shutil.copytree(tiny.folder("tiny:test/aux-0.01"), member)
    assert tiny.damage(member) is None
    (member / file).unlink() if content is None else (member / file).write_bytes(content)
    assert re.search(why, tiny.damage(member))


def test_a_damaged_member_is_set_aside_and_trained_again(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(train_member.Training, "run", lambda self: told.append(self.member))
    (tmp_path / "corpus").symlink_to(tiny.family_folder("test") / "corpus")
    (tmp_path / "aux-0.01").mkdir()
    train_family.train_members("test", ["aux-0.01"], tmp_path, told.append)
    assert "is damaged" in told[0] and told[1] == "aux-0.01"
    assert (tmp_path / "aux-0.01.damaged").is_dir() and not (tmp_path / "aux-0.01").exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + b"x" * 99])
def test_a_damaged_checkpoint_of_a_training_is_removed_and_it_begins_again(tmp_path, content):
    (tmp_path / "corpus").symlink_to(tiny.family_folder("test") / "corpus")
    told = []
    training = train_member.Training("test", "aux-0.01", tmp_path, told.append)
    training.checkpoint.write_bytes(content)
    assert training._kept() is None and "is damaged" in told[0]
    assert not training.checkpoint.exists()


def test_what_is_there_is_not_trained_again():
    said = []
    records = train_family.train_family("test", ["aux-0.01", "draft-small"], say=said.append)
    assert [r["member"] for r in records] == ["aux-0.01", "draft-small"] and not said
    assert "aux-0.01" in train_family.table(records, tiny.family_folder("test"))
