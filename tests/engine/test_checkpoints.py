"""Checkpoints in the engine: whole and pruned folders load unchanged and read held-out text as
transformers does."""

import json
from pathlib import Path

import pytest
import warm
from typer.testing import CliRunner

from moebook.cli import app

SCRIPT = Path(__file__).parent / "perplexity.py"
TEXT = " ".join(f"w{(i * i) % 97}" for i in range(400))


def save_model(folder: Path) -> None:
    """A random Mixtral of the least head size that the engine's CPU attention has."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    transformers.MixtralForCausalLM(config).save_pretrained(folder)


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel({"[UNK]": 0, **{f"w{i}": i + 3 for i in range(97)}}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", eos_token="w0"
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A small Mixtral with a tokenizer, and it pruned by the command in both ways."""
    root = tmp_path_factory.mktemp("checkpoints")
    (root / "text.txt").write_text(TEXT)
    whole = root / "whole"
    save_model(whole)
    save_tokenizer(whole)
    for kind, *criterion in (
        ("inter", "--criterion", "frequency", "--text", str(root / "text.txt")),
        ("intra", "--criterion", "norm"),
    ):
        done = CliRunner().invoke(
            app,
            ["prune", str(whole), str(root / kind), "--kind", kind, "--ratio", "50", *criterion],
        )
        assert done.exit_code == 0, done.output
    return {
        "text": root / "text.txt",
        "whole": whole,
        "inter": root / "inter",
        "intra": root / "intra",
    }


@pytest.fixture(scope="module")
def perplexities(folders) -> dict:
    command = [
        str(SCRIPT),
        str(folders["text"]),
        *(str(folders[k]) for k in ("whole", "inter", "intra")),
    ]
    done = warm.run(command, "warm_engine", timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.engine
@pytest.mark.parametrize("name", ["whole", "inter", "intra"])
def test_the_engine_reads_text_as_transformers_does(perplexities, folders, name):
    found = perplexities[str(folders[name])]
    assert len(found["ours"]) == 3
    assert found["ours"] == pytest.approx(found["theirs"], rel=2e-3)


@pytest.mark.engine
def test_pruning_changes_the_perplexity_and_a_short_text_is_refused(perplexities, folders):
    whole, inter, intra = (
        perplexities[str(folders[k])]["ours"] for k in ("whole", "inter", "intra")
    )
    assert whole != pytest.approx(inter, rel=1e-2) and whole != pytest.approx(intra, rel=1e-2)
    assert "tokens; 1000000 windows of 32 need 32000000" in perplexities["too short"]
