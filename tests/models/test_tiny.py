"""Names, configs and folders of the tiny family."""

import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_family
from typer.testing import CliRunner

from moebook import cli
from moebook.models import catalog
from moebook.models import sizes as shapes
from moebook.models.architecture import UnknownModel
from moebook.models.edit import ImpossibleEdit, edit
from moebook.models.tiny import family as tiny
from moebook.models.tiny import train_family
from moebook.models.tiny.recipes import PRESETS, Ref

_PRUNE = tiny._prune
MODELS = [
    f"tiny:{preset}/{member}" for preset, found in PRESETS.items() for member in found.members
]


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOEBOOK_CACHE", str(tmp_path))
    monkeypatch.delenv("MOEBOOK_TEXT", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    with tiny_family.trained(tmp_path_factory.mktemp("cache"), ["aux-0.01"]) as folder:
        yield folder


def test_names_are_parsed():
    assert tiny.parse("tiny:cpu/aux-0.01") == Ref("cpu", "aux-0.01")
    assert (
        tiny.parse("tiny:cpu/aux-0.01/inter-12.5-routed_activation").pruning
        == "inter-12.5-routed_activation"
    )
    assert tiny.is_tiny("tiny:x") and not tiny.is_tiny("OLMoE-1B-7B-0924")


@pytest.mark.parametrize(
    "name, said",
    [
        ("tiny:cpux/aux-0.01", "'cpux' is no preset.*allowed: cpu, gpu, test; nearest: cpu"),
        ("tiny:cpu/aux-0.02", "'aux-0.02' is no member of the cpu preset.*nearest: aux-0.01"),
        ("tiny:cpu", "write tiny:<preset>/<member>"),
        ("tiny:cpu/aux-0.01/inter-50-nrom", "'inter-50-nrom' is no pruning.*inter-50-norm"),
        ("tiny:cpu/aux-0.01/inter-100-norm", "is no pruning"),
        ("tiny:cpu/draft-small/inter-50-norm", "only the OLMoE members"),
        ("tiny:cpu/loss-free/inter-50-norm", "only the OLMoE members"),
        ("tiny:cpu/heldout", "is a held-out text, not a model"),
    ],
)
def test_unknown_names(name, said):
    with pytest.raises(tiny.UnknownTiny, match=said):
        tiny.parse(name)
    with pytest.raises(UnknownModel, match=said):
        catalog.load(name)


@pytest.mark.parametrize("name", MODELS)
def test_counts_equal_the_modules_of_transformers(name, meta_parameters):
    arch = catalog.load(name)
    assert arch.name == f"tiny-{name.split('/')[1]}" and arch.source.startswith(
        "trained by moebook, preset "
    )
    assert shapes.total_parameters(arch) == meta_parameters(arch.hf_config())


@pytest.mark.parametrize("preset, low, high", [("cpu", 1.8e6, 3e6), ("gpu", 40e6, 60e6)])
def test_sizes(preset, low, high):
    moe = [
        tiny.architecture(f"tiny:{preset}/{m}")
        for m in PRESETS[preset].members
        if not m.startswith("draft")
    ]
    assert len({(a.shape, a.hidden_size) for a in moe}) == 1
    assert all(low < shapes.total_parameters(a) < high for a in moe)
    drafts = [tiny.architecture(f"tiny:{preset}/draft-{s}") for s in ("small", "medium", "large")]
    sizes = [shapes.total_parameters(a) for a in drafts]
    assert sizes == sorted(sizes) and sizes[-1] > 2 * sizes[0]
    assert {a.vocab_size for a in moe + drafts} == {4096} and {
        a.max_positions for a in moe + drafts
    } == {1024}


def test_shapes_suit_the_engine():
    for name in MODELS:
        arch = tiny.architecture(name)
        assert arch.head_dim in (32, 64) and arch.hidden_size % 32 == 0
        assert arch.expert_ffn_dim % (64 if ":gpu/" in name else 32) == 0


def test_a_pruned_name_has_its_shape_and_can_be_edited():
    arch = catalog.load("tiny:cpu/aux-0.01/inter-50-norm")
    assert (arch.name, arch.num_experts, arch.top_k) == ("tiny-aux-0.01/inter-50-norm", 8, 4)
    assert catalog.load("tiny:cpu/aux-0.01/intra-50-frequency").expert_ffn_dim == 32
    assert edit(arch, top_k=2).num_experts == 8
    with pytest.raises(ImpossibleEdit):
        tiny.architecture("tiny:cpu/aux-0.01/inter-90-norm")


def test_the_bias_balanced_shape_can_be_edited():
    arch = catalog.load("tiny:cpu/loss-free")
    assert edit(arch, top_k=2, num_layers=2).shape == (64, 16, 2, 2)
    assert arch.router_bias and arch.num_dense_layers == 0 and arch.num_shared_experts == 0


def test_not_trained_says_how(empty_cache):
    for wanted in (
        lambda: tiny.folder("tiny:cpu/aux-0.01"),
        lambda: tiny.heldout("cpu", "code"),
        lambda: tiny.record("tiny:cpu/aux-0.01"),
    ):
        with pytest.raises(tiny.NotTrained, match="moebook train tiny --preset cpu"):
            wanted()


def test_what_is_missing(empty_cache):
    names = [
        "tiny:cpu/aux-0.01/inter-50-norm",
        "tiny:cpu/aux-0.01",
        "tiny:test/draft-small",
        "OLMoE-1B-7B-0924",
        "a.txt",
        "tiny:cpu/heldout/code",
    ]
    assert train_family.missing(names) == ["tiny:cpu/aux-0.01", "tiny:test/draft-small"]


def test_another_text_is_another_folder(empty_cache, monkeypatch):
    own = tiny.family_folder("cpu")
    (empty_cache / "a.txt").write_text("one")
    monkeypatch.setenv("MOEBOOK_TEXT", str(empty_cache / "a.txt"))
    one = tiny.family_folder("cpu")
    (empty_cache / "a.txt").write_text("two")
    assert len({own, one, tiny.family_folder("cpu")}) == 3


def test_text_references():
    assert tiny.text_path("texts/own.txt") == Path("texts/own.txt")
    with pytest.raises(tiny.UnknownTiny, match="'prosa' is no held-out domain.*nearest: prose"):
        tiny.text_path("tiny:cpu/heldout/prosa")
    with pytest.raises(tiny.UnknownTiny, match="is no held-out text"):
        tiny.text_path("tiny:cpu/aux-0.01")


def test_trained_files(family):
    from transformers import AutoTokenizer

    folder = tiny.folder("tiny:test/aux-0.01")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tiny.text_path("tiny:test/heldout/prose").read_text()
    assert tokenizer.decode(tokenizer(text[:500])["input_ids"]) == text[:500]
    assert len(tokenizer) == 1024 and tokenizer.eos_token_id == 0
    assert catalog.load(str(folder)).config == tiny.architecture("tiny:test/aux-0.01").config
    assert (folder.parent / "corpus" / "calibration.txt").read_text() and train_family.missing(
        ["tiny:test/aux-0.01"]
    ) == []


@pytest.mark.parametrize("pruning", ["inter-50-frequency", "intra-50-norm"])
def test_pruned_folders_are_made_when_asked_for(family, pruning):
    name = f"tiny:test/aux-0.01/{pruning}"
    folder = tiny.folder(name)
    assert folder == tiny.folder(name)
    assert catalog.load(str(folder)).shape == tiny.architecture(name).shape
    assert (folder / "tokenizer.json").is_file()


def test_beside_a_gpu_a_process_of_its_own_prunes_as_this_one_would(family, monkeypatch):
    here = tiny.folder("tiny:test/aux-0.01/inter-25-routed_activation")
    before = (here / "model.safetensors").read_bytes()
    shutil.rmtree(here)
    monkeypatch.setattr(tiny, "_prune", _as_elsewhere)
    again = tiny.folder("tiny:test/aux-0.01/inter-25-routed_activation", forks_engines=True)
    assert (again / "model.safetensors").read_bytes() == before


def _as_elsewhere(*arguments):
    """Pickled by name, so that the child, which imports this file, checks where it runs."""
    assert multiprocessing.parent_process() is not None
    _PRUNE(*arguments)


def test_ensure_trains_what_is_missing_in_a_process(family):
    said = []
    train_family.trained(["tiny:test/aux-0.01", "tiny:test/draft-small"], said.append)
    assert any("draft-small: held-out perplexity" in line for line in said)
    assert not any(line.startswith("aux-0.01: step") for line in said)
    assert (tiny.folder("tiny:test/draft-small") / "model.safetensors").is_file()


def test_a_failed_training_gives_its_last_lines():
    with pytest.raises(train_family.TrainingFailed, match="exit code 3:\n  broken"):
        train_family.run(
            [sys.executable, "-c", "print('broken'); raise SystemExit(3)"], lambda line: None
        )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["huge"], "'huge' is no family"),
        (["tiny", "--preset", "cup"], "nearest: cpu"),
        (["tiny", "--members", "aux-0.01,draft-smal"], "nearest: 'draft-small'"),
        (["tiny", "--text", "none.txt"], "none.txt: there is no file"),
    ],
)
def test_bad_input_to_the_command(empty_cache, arguments, said):
    done = CliRunner().invoke(cli.app, ["train", *arguments])
    assert (
        done.exit_code == 1
        and isinstance(done.exception, ValueError)
        and said in str(done.exception)
    )


def test_names_and_configs_need_no_torch():
    code = (
        "import sys\nfrom moebook.models import catalog\nfrom moebook.models.tiny import family as "
        "tiny\ncatalog.load('tiny:cpu/aux-0.01/inter-50-norm')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
