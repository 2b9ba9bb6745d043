"""Counts of expert choices: known cases, no file after a failure, readable refusals."""

import os

import numpy as np
import pytest

from moebook.engine.counts import read, write

IDS = [[[0, 1], [0, 2], [3, 0]], [[1, 2], [1, 2], [2, 1]]]  # L 2, T 3, K 2


def written(path, sequences, layers=2, experts=4):
    write(path, sequences, layers, experts)
    return read(path)


def test_a_known_sequence(tmp_path):
    found = written(tmp_path / "c.npz", [IDS])
    assert (
        found.counts.tolist() == [[[3, 1, 1, 1], [0, 3, 3, 0]]]
        and found.tokens.tolist() == [3]
        and found.top_k == 2
    )
    assert found.counts.dtype == found.tokens.dtype == np.uint32
    assert os.listdir(tmp_path) == ["c.npz"]


def test_random_sequences_agree_with_counting_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    sequences = [np.argsort(rng.random((3, t, 8)))[..., :3] for t in (1, 5000, 40)]
    found = written(tmp_path / "c.npz", sequences, 3, 8)
    counts = np.zeros((3, 3, 8))
    for n, ids in enumerate(sequences):
        for layer in range(3):
            for token in ids[layer]:
                counts[n, layer, token] += 1
    assert (found.counts == counts).all()
    assert found.tokens.tolist() == [1, 5000, 40]
    assert (found.counts.sum(2) == found.tokens[:, None] * 3).all()


def test_a_file_without_sequences(tmp_path):
    empty = written(tmp_path / "b.npz", [])
    assert empty.counts.shape == (0, 2, 4) and empty.tokens.shape == (0,) and empty.top_k == 0


def test_an_expert_chosen_twice_by_a_token_counts_twice(tmp_path):
    found = written(tmp_path / "c.npz", [[[[2, 2], [2, 0]]]], 1, 3)
    assert found.counts.tolist() == [[[1, 0, 3]]]


@pytest.mark.parametrize(
    "ids",
    [
        IDS[:1],
        [*IDS, IDS[0]],
        [[[0, 4]], [[0, 1]]],
        [[[0, -1]], [[0, 1]]],
        [0, 1],
        np.ones((2, 3, 2)),
        np.ones((2, 3, 2), bool),
    ],
)
def test_wrong_choices_are_refused_and_leave_nothing(tmp_path, ids):
    with pytest.raises(ValueError, match="give whole numbers .* 2 layers and experts 0 to 3"):
        write(tmp_path / "c.npz", [IDS, ids], 2, 4)
    assert os.listdir(tmp_path) == []


def test_a_failed_run_keeps_an_older_file(tmp_path):
    def cut_off():
        yield IDS
        raise KeyError("the model")

    written(tmp_path / "c.npz", [IDS])
    with pytest.raises(KeyError):
        write(tmp_path / "c.npz", cut_off(), 2, 4)
    assert read(tmp_path / "c.npz").tokens.tolist() == [3] and os.listdir(tmp_path) == ["c.npz"]


def test_a_file_with_more_in_it_is_read(tmp_path):
    """Files of before hold which experts served together, too."""
    written(tmp_path / "c.npz", [IDS])
    arrays = dict(np.load(tmp_path / "c.npz"))
    np.savez(tmp_path / "more.npz", **arrays, co_activation=np.ones((2, 4, 4), np.uint64))
    assert (read(tmp_path / "more.npz").counts == arrays["counts"]).all()


def test_read_says_what_is_wrong_with_a_file(tmp_path):
    path, good = tmp_path / "c.npz", tmp_path / "good.npz"
    written(good, [IDS])
    arrays = dict(np.load(good))
    with pytest.raises(ValueError, match="does not exist"):
        read(path)
    for content in (
        b"",
        b"no zip",
        good.read_bytes()[:-40],
        good.read_bytes()[:60] + bytes(80) + good.read_bytes()[140:],
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="c.npz holds no counts"):
            read(path)
    np.savez(path, weights=np.ones(3))
    with pytest.raises(ValueError, match="holds no counts .*counts"):
        read(path)
    wrong = {"counts": np.ones((2, 2)), "tokens": np.ones(3, np.uint32)}
    for name, values in wrong.items():
        np.savez(path, **{**arrays, name: values})
        with pytest.raises(ValueError, match=f"{name} ha.* shape"):
            read(path)
    np.save(tmp_path / "c.npy", np.ones(3))
    with pytest.raises(ValueError, match="holds no counts"):
        read(tmp_path / "c.npy")
