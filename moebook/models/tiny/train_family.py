"""The tiny family's training: who trains what, where and when. What a training step does stands in
train_member.py.

    python -m moebook.models.tiny.train_family --preset cpu --members aux-0.01,draft-small

A cpu preset trains each member on one thread, in as many processes as there are cores: small
matrices gain little from threads, and results do not hang on the machine. Locks in the cache see to
it that no member is trained twice."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import SafetensorError

from moebook.models import cache, sizes
from moebook.models.tiny import balancing, corpus, ensure, family, own_text, whole
from moebook.models.tiny.recipes import PRESETS
from moebook.models.tiny.references import check_member
from moebook.models.tiny.train_member import Training
from moebook.problems import aligned

GPU_PROCESSES = 4  # small models leave most of a GPU idle: the host launches their kernels


def train_family(
    preset: str,
    members: Iterable[str] = (),
    texts: Iterable[str] = (),
    say: Callable[[str], object] = print,
    cores: int = 1,
) -> list[dict]:
    """Trains the members (all, when none are named) that are missing; returns all their records.
    cores: of this machine, each of which trains a member of its own at a time."""
    found, texts = family.preset(preset), tuple(texts)
    members = [check_member(preset, m) for m in members] or list(found.members)
    if found.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"preset {preset!r} trains on a CUDA device, and PyTorch sees none here; use --preset "
            "cpu"
        )
    folder = family.family_folder(preset, texts)
    prepare_corpus(preset, texts, say)
    left = [m for m in members if whole.damage(folder / m)]
    workers = min(len(left), GPU_PROCESSES if found.device == "cuda" else cores)
    if workers > 1:
        _in_processes(workers, preset, sorted(left, key=lambda m: -_cost(preset, m)), texts, say)
    train_members(preset, left, folder, say)
    return [json.loads((folder / m / family.RECORD).read_text()) for m in members]


def prepare_corpus(
    preset: str, texts: Iterable[str] = (), say: Callable[[str], object] = print
) -> Path:
    """The family's corpus folder, made where it is missing."""
    found, folder = PRESETS[preset], family.family_folder(preset, texts) / "corpus"
    with cache.locked(folder):
        if folder.exists() and (why := whole.corpus_damage(folder)):
            whole.set_aside(folder, why, say)
        if not folder.exists():
            documents = own_text.documents(texts) if texts else corpus.stdlib(found.share)
            named = own_text.named(texts)
            facts = corpus.prepare(folder, documents, named, found.vocab, found.window)
            say(
                f"corpus: {facts['train_tokens']} tokens of {facts['modules']} modules to train "
                f"on, {facts['heldout_tokens']} of {facts['heldout_modules']} held out; {folder}"
            )
    return folder


def _cost(preset: str, member: str) -> int:
    """What its training takes, relative to others: the longest begins first, so that no core is
    left without work."""
    return PRESETS[preset].members[member].steps * sizes.active_parameters(
        family.architecture(f"tiny:{preset}/{member}")
    )


def _in_processes(
    workers: int, preset: str, members: list[str], texts: tuple[str, ...], say
) -> None:
    """Each process takes the next member that no other has."""
    named = [argument for text in texts for argument in ("--text", text)]
    chosen = ["--preset", preset, "--members", ",".join(members), *named]
    command = [sys.executable, "-m", "moebook.models.tiny.train_family", *chosen]
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(ensure.run, command, say, own_session=False) for _ in range(workers)]
        for done in running:
            done.result()


def train_members(
    preset: str, members: Iterable[str], folder: Path, say, wait: bool = True
) -> None:
    """One after another. wait False: a member that another process is training is left to it."""
    for member in members:
        with cache.locked(folder / member, wait) as mine:
            if not mine or not (why := whole.damage(folder / member)):
                continue
            if (folder / member).exists():
                whole.set_aside(folder / member, why, say)
            try:
                Training(preset, member, folder, say).run()
            except (OSError, SafetensorError) as error:
                told = f"{member} cannot be kept in {folder}: {error}"
                raise ensure.TrainingFailed(told) from error


def main(arguments: list[str] | None = None) -> None:
    """One of the processes that share a family's members."""
    parser = argparse.ArgumentParser(
        description="Train members of the tiny family that no other process is training."
    )
    parser.add_argument("--preset", required=True)
    parser.add_argument("--members", required=True, help="a,b,c")
    parser.add_argument("--text", action="append", default=[])
    given = parser.parse_args(arguments)
    folder = family.family_folder(given.preset, given.text)
    say = functools.partial(print, flush=True)
    train_members(given.preset, given.members.split(","), folder, say, wait=False)


def table(records: Iterable[dict], folder: Path) -> str:
    """What training gave, as aligned text. balance: load of the busiest expert over the mean,
    averaged over layers."""
    rows = [("member", "parameters", "perplexity", "unigram", "balance", "seconds", "folder")]
    for r in records:
        counts = r["load"]["counts"]
        balance = f"{balancing.imbalance(torch.tensor(counts[-1])):.2f}" if counts else "-"
        rows.append(
            (
                r["member"],
                f"{r['parameters'] / 1e6:.2f} M",
                f"{r['perplexity']['all']:.1f}",
                f"{r['unigram_perplexity']['all']:.1f}",
                balance,
                f"{r['seconds']:.1f}",
                folder / r["member"],
            )
        )
    return aligned(rows)


if __name__ == "__main__":
    main()
