"""The tiny family: small language models that are really trained, here, and that vLLM loads
unchanged.

A reference names one:

    tiny:<preset>/<member>                              tiny:cpu/aux-0.01
    tiny:<preset>/<member>/<kind>-<ratio>-<criterion>   tiny:cpu/aux-0.01/inter-50-norm, pruned when
                                                        first asked for
    tiny:<preset>/heldout/<domain>                      a held-out text: all, code, prose or numbers

Config and shapes need no training; `folder` needs it, and `ensure` does it. Trained folders lie in
the cache (`$MOEBOOK_CACHE` or ~/.cache/moebook) under a digest of all that changes the weights, so
a changed recipe never meets old weights. `MOEBOOK_TEXT` names text files to train on in place of
the standard library (own_text.py)."""

import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from moebook.models import cache
from moebook.models.pruning import saliency
from moebook.models.tiny import corpus, own_text
from moebook.models.tiny.recipes import PRESETS, hf_config
from moebook.models.tiny.references import (
    PREFIX,
    PRUNING,
    Ref,
    UnknownTiny,
    is_tiny,
    one_of,
    parse,
    preset,
)

RECORD = "training.json"
DOMAINS = corpus.DOMAINS
TARGETS = tuple(member for member, recipe in PRESETS["cpu"].members.items() if recipe.shape.experts)
CALIBRATION_WINDOWS = 64


class NotTrained(ValueError):
    """The member is known but not in the cache; the message names the command that trains it."""


class TrainingFailed(RuntimeError):
    """The training process ended without all members; the message ends in its last lines."""


def config(name: str) -> dict:
    """The Hugging Face config, without training. Raises UnknownTiny, and ImpossibleEdit for a
    pruning too far."""
    return architecture(name).hf_config()


def architecture(name: str):
    """The `catalog.Architecture` of a member or of a pruned one."""
    from moebook.models import catalog
    from moebook.models.pruning import prune

    ref = parse(name)
    source = f"trained by moebook, preset {ref.preset}"
    arch = catalog.from_config(
        hf_config(ref.recipe, PRESETS[ref.preset]), f"tiny-{ref.member}", source
    )
    if ref.pruning is None:
        return arch
    kind, percent, _ = PRUNING.fullmatch(ref.pruning).groups()
    pruned, _ = prune.prune_architecture(arch, kind=kind, ratio=float(percent) / 100)
    return catalog.from_config(pruned.hf_config(), f"tiny-{ref.member}/{ref.pruning}", source)


def family_folder(preset_name: str, text_files: Iterable[str] | None = None) -> Path:
    """Where the members of a preset lie: named by all that changes their weights."""
    files = own_text.files() if text_files is None else text_files
    facts = [
        asdict(preset(preset_name)),
        corpus.RULE,
        corpus.MIX,
        sys.version_info[:2] if not files else None,
        own_text.facts(files),
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return cache.root() / "tiny" / f"{preset_name}-{digest}"


def folder(name: str, forks_engines: bool = False) -> Path:
    """The trained Hugging Face folder; a pruned one is made when first asked for. Raises
    UnknownTiny and NotTrained.

    forks_engines: this process starts a GPU's engines, which are forked: it prunes in another one.
    """
    ref = parse(name)
    whole = family_folder(ref.preset) / ref.member
    if not (whole / RECORD).is_file():
        raise NotTrained(
            f"{ref.parent} is not trained yet (no {whole}); run `moebook train tiny --preset "
            f"{ref.preset}`"
        )
    return (
        whole
        if ref.pruning is None
        else _pruned(whole, ref.pruning, PRESETS[ref.preset].window, forks_engines)
    )


def _pruned(whole: Path, pruning: str, window: int, forks_engines: bool) -> Path:
    target = whole.parent / f"{whole.name}.{pruning}"
    with cache.locked(target):
        if not target.exists():
            if not forks_engines:
                _prune(whole, target, pruning, window)
            else:  # a fork after OpenMP or CUDA has run here would hang or fail
                with ProcessPoolExecutor(
                    1, mp_context=multiprocessing.get_context("spawn")
                ) as fresh:
                    fresh.submit(_prune, whole, target, pruning, window).result()
    return target


def _prune(whole: Path, target: Path, pruning: str, window: int) -> None:
    import torch

    from moebook.models.pruning import prune

    kind, percent, criterion = PRUNING.fullmatch(pruning).groups()
    scores = None
    if criterion in saliency.CALIBRATED:
        text = whole.parent / "corpus" / "calibration.txt"
        scores = saliency.collect_from_text(
            whole,
            text,
            windows=CALIBRATION_WINDOWS,
            length=window,
            device="cuda" if torch.cuda.is_available() else "cpu",
        )
    prune.prune_checkpoint(
        whole,
        target,
        kind=kind,
        ratio=float(percent) / 100,
        criterion=criterion,
        scores=scores,
        overwrite=True,
    )  # an earlier process, cut off, may have ended its work since


def record(name: str) -> dict:
    """training.json of the member (of a pruned one, of the member it came from)."""
    return json.loads((folder(parse(name).parent) / RECORD).read_text())


def training_id(name: str) -> str:
    """Which training the member's weights are of: on a GPU two of one recipe differ. Eight
    hexadecimal digits of its losses and perplexity."""
    found = record(name)
    return hashlib.sha256(json.dumps([found["loss"], found["perplexity"]]).encode()).hexdigest()[:8]


def training_facts(name: str) -> dict:
    """What a point of method `training` tells: its `repeats` and `facts` (results.POINT_NUMBERS,
    POINT_TEXTS)."""
    found = record(name)
    perplexity = found["perplexity"]
    by_domain = {
        f"perplexity_{domain}": perplexity.get(domain) for domain in DOMAINS if domain != "all"
    }
    return {
        "repeats": [{"perplexity": perplexity["all"]}],
        "facts": {
            **by_domain,
            "unigram_perplexity": found["unigram_perplexity"]["all"],
            "parameters": found["parameters"],
            "train_steps": found["steps"],
            "train_tokens": found["tokens"],
            "train_seconds": found["seconds"],
            "loss_curve": json.dumps(found["loss"]),
            "load_steps": json.dumps(found["load"]["steps"]),
            "load_counts": json.dumps(found["load"]["counts"]),
        },
    }


def recipe_id(name: str) -> str:
    """Digest of the recipes behind a reference: what trained weights depend on besides the
    machine's own library."""
    facts = [asdict(preset(str(name).removeprefix(PREFIX).split("/")[0])), corpus.RULE, corpus.MIX]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def text_problems(ref: str) -> list[str]:
    """What is wrong with the name of a held-out text; whether it is there yet is not asked."""
    try:
        text_path(ref)
    except NotTrained:
        return []
    except UnknownTiny as error:
        return [str(error)]
    return []


def heldout(preset_name: str, domain: str = "all") -> Path:
    """Text that no member saw in training. Raises UnknownTiny and NotTrained."""
    preset(preset_name)
    one_of("held-out domain", domain, corpus.DOMAINS)
    return _corpus_file(preset_name, f"heldout/{domain}.txt")


def calibration(preset_name: str) -> Path:
    """Text from the training side, to choose what to prune by."""
    preset(preset_name)
    return _corpus_file(preset_name, "calibration.txt")


def _corpus_file(preset_name: str, file: str) -> Path:
    path = family_folder(preset_name) / "corpus" / file
    if not path.parent.is_dir():
        raise NotTrained(
            f"the corpus of preset {preset_name} is not there yet (no {path}); run `moebook train "
            f"tiny "
            f"--preset {preset_name}`"
        )
    if not path.is_file():
        raise UnknownTiny(
            f"the corpus of preset {preset_name} has no {file}: user texts have the one domain "
            f"'all'"
        )
    return path


def text_path(ref: str | Path) -> Path:
    """The file of `tiny:<preset>/heldout/<domain>`; any other string is a path."""
    if not is_tiny(str(ref)):
        return Path(ref)
    found = re.fullmatch(r"tiny:([^/]+)/heldout/([^/]+)", str(ref))
    if not found:
        raise UnknownTiny(
            f"{ref!r} is no held-out text; write tiny:<preset>/heldout/<domain> with domain one of "
            f"{', '.join(corpus.DOMAINS)}, such as tiny:cpu/heldout/all"
        )
    return heldout(*found.groups())


def missing(names: Iterable[str]) -> list[str]:
    """References to members (of pruned ones, their parents) that are not in the cache, each once;
    others are ignored.

    A held-out text stands for the family's main target, whose training makes the corpus.
    """
    parents = dict.fromkeys(_needed(str(name)) for name in names if is_tiny(name))
    return [parent for parent in parents if not (_whole(parent) / RECORD).is_file()]


def _needed(name: str) -> str:
    found = re.fullmatch(r"tiny:([^/]+)/heldout/[^/]+", name)
    return Ref(found[1], "aux-0.01").parent if found and preset(found[1]) else parse(name).parent


def _whole(parent: str) -> Path:
    ref = parse(parent)
    return family_folder(ref.preset) / ref.member


def ensure(
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
    for preset_name, members in by_preset.items():
        texts_given = [argument for file in own_text.files() for argument in ("--text", file)]
        run(
            [
                sys.executable,
                "-m",
                "moebook",
                "train",
                "tiny",
                "--preset",
                preset_name,
                "--members",
                ",".join(members),
                *texts_given,
            ],
            say,
            environment=environment,
        )


def run(
    command: list[str],
    say: Callable[[str], object],
    own_session: bool = True,
    environment: Mapping[str, str] | None = None,
) -> None:
    """A moebook process, its lines passed on as they come; killed when this one is interrupted.

    own_session: it has children, which are killed with it.
    """
    path = os.pathsep.join(
        filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])
    )
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=own_session,
        env={**os.environ, **(environment or {}), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
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


def table(records: Iterable[dict], family: Path) -> str:
    """What training gave, as aligned text. balance: load of the busiest expert over the mean,
    averaged over layers."""
    rows = [("member", "parameters", "perplexity", "unigram", "balance", "seconds", "folder")]
    for r in records:
        last = (r["load"]["counts"] or [None])[-1]
        balance = f"{sum(max(c) * len(c) / sum(c) for c in last) / len(last):.2f}" if last else "-"
        rows.append(
            (
                r["member"],
                f"{r['parameters'] / 1e6:.2f} M",
                f"{r['perplexity']['all']:.1f}",
                f"{r['unigram_perplexity']['all']:.1f}",
                balance,
                f"{r['seconds']:.1f}",
                str(family / r["member"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
