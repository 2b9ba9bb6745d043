"""The tiny family's training: who trains what, where and when. What a training step does stands in
train_member.py.

    python -m moebook.models.tiny.train_family --preset cpu --members aux-0.01,draft-small

A cpu preset trains each member on one thread, in as many processes as there are cores: small
matrices gain little from threads, and results do not hang on the machine. Locks in the cache see to
it that no member is trained twice.

Members that a plan needs are trained in a process of its own (`trained`): this one imports no
torch, and a GPU's engines are forked from it."""

import argparse
import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from moebook import paths
from moebook.models import cache_folder, sizes
from moebook.models.tiny import corpus, family, own_text
from moebook.models.tiny.family import family_folder
from moebook.models.tiny.recipes import PRESETS, check_member, is_tiny, one_of, parse
from moebook.problems import Told, aligned

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
    found, texts = PRESETS[one_of("preset", preset, PRESETS)], tuple(texts)
    members = [check_member(preset, m) for m in members] or list(found.members)
    if found.device == "cuda" and not _sees_cuda():
        raise ValueError(
            f"preset {preset!r} trains on a CUDA device, and PyTorch sees none here; use --preset "
            "cpu"
        )
    folder = family.family_folder(preset, texts)
    prepare_corpus(preset, texts, say)
    left = [m for m in members if family.damage(folder / m)]
    workers = min(len(left), GPU_PROCESSES if found.device == "cuda" else cores)
    if workers > 1:
        _in_processes(workers, preset, sorted(left, key=lambda m: -_cost(preset, m)), texts, say)
    train_members(preset, left, folder, say)
    return [json.loads((folder / m / family.RECORD).read_text()) for m in members]


def _sees_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def prepare_corpus(
    preset: str, texts: Iterable[str] = (), say: Callable[[str], object] = print
) -> Path:
    """The family's corpus folder, made where it is missing."""
    found, folder = PRESETS[preset], family.family_folder(preset, texts) / "corpus"
    with cache_folder.locked(folder):
        if folder.exists() and (why := family.corpus_damage(folder)):
            family.set_aside(folder, why, say)
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
        running = [pool.submit(run, command, say, own_session=False) for _ in range(workers)]
        for done in running:
            done.result()


def train_members(
    preset: str, members: Iterable[str], folder: Path, say, wait: bool = True
) -> None:
    """One after another. wait False: a member that another process is training is left to it."""
    from safetensors import SafetensorError

    from moebook.models.tiny.train_member import Training

    for member in members:
        with cache_folder.locked(folder / member, wait) as mine:
            if not mine or not (why := family.damage(folder / member)):
                continue
            if (folder / member).exists():
                family.set_aside(folder / member, why, say)
            try:
                Training(preset, member, folder, say).run()
            except (OSError, SafetensorError) as error:
                told = f"{member} cannot be kept in {folder}: {error}"
                raise TrainingFailed(told) from error


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
    import torch

    from moebook.models.tiny.losses import imbalance

    rows = [("member", "parameters", "perplexity", "unigram", "balance", "seconds", "folder")]
    for r in records:
        counts = r["load"]["counts"]
        balance = f"{imbalance(torch.tensor(counts[-1])):.2f}" if counts else "-"
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


class TrainingFailed(Told, RuntimeError):
    """The training process ended without all members; the message ends in its last lines."""


def missing(names: Iterable[str]) -> list[str]:
    """References to members (of pruned ones, their parents) that are not in the cache or damaged
    there, each once; others are ignored.

    A held-out text stands for the family's main target, whose training makes the corpus.
    """
    parents = dict.fromkeys(_needed(str(name)) for name in names if is_tiny(name))
    return [parent for parent in parents if not _is_trained(parent)]


def _needed(name: str) -> str:
    """The member that a model or a text needs."""
    found = re.fullmatch(r"tiny:([^/]+)/heldout/[^/]+", name)
    return parse(f"tiny:{found[1]}/aux-0.01" if found else name).parent


def _is_trained(parent: str) -> bool:
    ref = parse(parent)
    return family.damage(family_folder(ref.preset) / ref.member) is None


def trained(
    names: Iterable[str],
    say: Callable[[str], object] = print,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Trains the members that are missing, each preset in one process. Raises TrainingFailed.

    environment: of that process besides this one's, such as the device that it may use.
    """
    by_preset: dict[str, list[str]] = {}
    for parent in missing(names):
        ref = parse(parent)
        by_preset.setdefault(ref.preset, []).append(ref.member)
    texts = [argument for file in own_text.files() for argument in ("--text", file)]
    command = [sys.executable, "-m", "moebook", "train", "tiny"]
    for preset_name, members in by_preset.items():
        chosen = ["--preset", preset_name, "--members", ",".join(members)]
        run([*command, *chosen, *texts], say, environment=environment)


def run(
    command: list[str],
    say: Callable[[str], object],
    own_session: bool = True,
    environment: Mapping[str, str] | None = None,
) -> None:
    """A moebook process, its lines passed on as they come; killed when this one is interrupted.

    own_session: it has children, which are killed with it.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=own_session,
        env={
            **os.environ,
            **(environment or {}),
            "PYTHONPATH": paths.library(),
            "PYTHONUNBUFFERED": "1",
        },
    )
    last: list[str] = []
    try:
        for line in process.stdout:
            last = [*last[-11:], line.rstrip()]
            say(last[-1])
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL) if own_session else process.kill()
        process.wait()
        raise
    if code:
        raise TrainingFailed(f"training ended with exit code {code}:\n  " + "\n  ".join(last))


if __name__ == "__main__":
    main()
