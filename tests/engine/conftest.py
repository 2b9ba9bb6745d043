import pytest

from moebook.models.tiny import train_family

MEMBERS = ("aux-0.01", "loss-free", "draft-small", "draft-large")


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory):
    """A MOEBOOK_CACHE with members of the tiny family's preset `test`, trained once for all tests
    that read them."""
    folder = tmp_path_factory.mktemp("tiny-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOEBOOK_CACHE", str(folder))
        patch.delenv("MOEBOOK_TEXT", raising=False)
        train_family.trained([f"tiny:test/{member}" for member in MEMBERS], lambda line: None)
    return folder
