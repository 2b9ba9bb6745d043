"""The tiny family in the engine: each architecture loads unchanged and reads held-out text as
transformers does."""

import json
from pathlib import Path

import pytest
import warm

from moebook.models.tiny import family

SCRIPT = Path(__file__).parent / "perplexity.py"
NAMES = [
    "tiny:test/aux-0.01",
    "tiny:test/loss-free",
    "tiny:test/draft-small",
    "tiny:test/aux-0.01/inter-50-norm",
]


@pytest.fixture(scope="module")
def perplexities(tiny_cache) -> dict:
    """By reference the perplexities of three parts of a text, by the engine ("ours") and by
    transformers ("theirs")."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOEBOOK_CACHE", str(tiny_cache))
        patch.delenv("MOEBOOK_TEXT", raising=False)
        folders = {name: str(family.folder(name)) for name in NAMES}
        done = warm.run(
            [str(SCRIPT), str(family.heldout("test", "all")), *folders.values()], "warm_engine"
        )
        assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: found[folder] for name, folder in folders.items()}


@pytest.mark.engine
@pytest.mark.parametrize("name", NAMES)
def test_the_engine_reads_text_as_transformers_does(perplexities, name):
    assert len(perplexities[name]["ours"]) == 3
    assert perplexities[name]["ours"] == pytest.approx(perplexities[name]["theirs"], rel=3e-3)


@pytest.mark.engine
def test_the_members_differ(perplexities):
    ours = [sum(found["ours"]) for found in perplexities.values()]
    assert len({round(value, 1) for value in ours}) == len(ours)
