"""A `test` family trained once a session into a cache of its own."""

import os
from contextlib import contextmanager

MEMBERS = ("aux-0.01", "loss-free", "draft-small")


@contextmanager
def trained(folder, members=MEMBERS):
    """MOEBOOK_CACHE set to `folder`, with the members of the test preset trained in this
    process."""
    import torch

    from moebook.models.tiny import family, train_family

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices on busy cores: two threads wait for each other
    before = {k: os.environ.get(k) for k in ("MOEBOOK_CACHE", "MOEBOOK_TEXT")}
    os.environ["MOEBOOK_CACHE"] = str(folder)
    os.environ.pop("MOEBOOK_TEXT", None)
    try:
        train_family.prepare_corpus("test")
        train_family.train_members("test", members, family.family_folder("test"), lambda line: None)
        yield folder
    finally:
        torch.set_num_threads(threads)
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})
