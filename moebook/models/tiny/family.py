"""The tiny family: small language models that are really trained, here, and that vLLM loads
unchanged.

A reference names one:

    tiny:<preset>/<member>                              tiny:cpu/aux-0.01
    tiny:<preset>/<member>/<kind>-<ratio>-<criterion>   tiny:cpu/aux-0.01/inter-50-norm, pruned when
                                                        first asked for
    tiny:<preset>/heldout/<domain>                      a held-out text: all, code, prose or numbers

Config and shapes need no training; `folder` needs it, and `train_family.trained` does it. Trained
folders lie in the cache (`$MOEBOOK_CACHE` or ~/.cache/moebook) under a digest of all that changes
the weights, so a changed recipe never meets old weights; what lies there damaged, as far as can be
seen without reading weights, is set aside with a word and made again. `MOEBOOK_TEXT` names text
files to train on in place of the standard library (own_text.py)."""

import hashlib
import json
import multiprocessing
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from moebook.models import cache_folder
from moebook.models.architecture import Architecture, from_config
from moebook.models.pruning import saliency
from moebook.models.tiny import corpus, own_text
from moebook.models.tiny.recipes import (
    PREFIX,
    PRESETS,
    PRUNING,
    UnknownTiny,
    hf_config,
    is_tiny,
    one_of,
    parse,
    preset,
)

DOMAINS = corpus.DOMAINS
TARGETS = tuple(member for member, recipe in PRESETS["cpu"].members.items() if recipe.shape.experts)
CALIBRATION_WINDOWS = 64


class NotTrained(ValueError):
    """The member is known but not in the cache; the message names the command that trains it."""


def architecture(name: str) -> Architecture:
    """The Architecture of a member or of a pruned one."""
    from moebook.models.pruning import prune_architecture

    ref = parse(name)
    source = f"trained by moebook, preset {ref.preset}"
    arch = from_config(hf_config(ref.recipe, PRESETS[ref.preset]), f"tiny-{ref.member}", source)
    if ref.pruning is None:
        return arch
    kind, percent, _ = PRUNING.fullmatch(ref.pruning).groups()
    pruned, _ = prune_architecture(arch, kind=kind, ratio=float(percent) / 100)
    return from_config(pruned.hf_config(), f"tiny-{ref.member}/{ref.pruning}", source)


def family_folder(preset_name: str, text_files: Iterable[str] | None = None) -> Path:
    """Where the members of a preset lie: named by all that changes their weights."""
    files = own_text.files() if text_files is None else text_files
    library = None if files else sys.version_info[:2]
    facts = [*_recipe_facts(preset_name), library, own_text.facts(files)]
    return cache_folder.root() / "tiny" / f"{preset_name}-{_digest(facts)[:12]}"


def recipe_id(name: str) -> str:
    """Digest of the recipes behind a reference: what trained weights depend on besides the
    machine's own library."""
    return _digest(_recipe_facts(str(name).removeprefix(PREFIX).split("/")[0]))[:12]


def _recipe_facts(preset_name: str) -> list:
    return [asdict(preset(preset_name)), corpus.RULE, corpus.MIX]


def _digest(facts: list) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def folder(name: str, forks_engines: bool = False) -> Path:
    """The trained Hugging Face folder; a pruned one is made when first asked for. Raises
    UnknownTiny and NotTrained.

    forks_engines: this process starts a GPU's engines, which are forked: it prunes in another one.
    """
    ref = parse(name)
    whole = family_folder(ref.preset) / ref.member
    if not whole.exists() or (why := damage(whole)):
        state = f"damaged ({why})" if whole.exists() else f"not trained yet (no {whole})"
        raise NotTrained(f"{ref.parent} is {state}; run `moebook train tiny --preset {ref.preset}`")
    if ref.pruning is None:
        return whole
    return _pruned(whole, ref.pruning, PRESETS[ref.preset].window, forks_engines)


def _pruned(whole: Path, pruning: str, window: int, forks_engines: bool) -> Path:
    target = whole.parent / f"{whole.name}.{pruning}"
    with cache_folder.locked(target):
        if not target.exists():
            if not forks_engines:
                _prune(whole, target, pruning, window)
            else:  # a fork after OpenMP or CUDA has run here would hang or fail
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
                    fresh.submit(_prune, whole, target, pruning, window).result()
    return target


def _prune(whole: Path, target: Path, pruning: str, window: int) -> None:
    import torch

    from moebook.models.pruning import calibration, prune_checkpoint

    kind, percent, criterion = PRUNING.fullmatch(pruning).groups()
    scores = None
    if criterion in saliency.CALIBRATED:
        text = whole.parent / "corpus" / "calibration.txt"
        device = "cuda" if torch.cuda.is_available() else "cpu"
        scores = calibration.collect_from_text(
            whole, text, windows=CALIBRATION_WINDOWS, length=window, device=device
        )
    # overwrite: an earlier process, cut off, may have ended its work since.
    prune_checkpoint(
        whole,
        target,
        kind=kind,
        ratio=float(percent) / 100,
        criterion=criterion,
        scores=scores,
        overwrite=True,
    )


def record(name: str) -> dict:
    """training.json of the member (of a pruned one, of the member it came from)."""
    return json.loads((folder(parse(name).parent) / RECORD).read_text())


def training_id(name: str) -> str:
    """Which training the member's weights are of: on a GPU two of one recipe differ. Eight
    hexadecimal digits of its losses and perplexity."""
    found = record(name)
    return _digest([found["loss"], found["perplexity"]])[:8]


def training_facts(name: str) -> dict:
    """What a point of method `training` tells: its `repeats` and `facts` (columns of the
    groups point_number and point_text of results/columns.yaml)."""
    found = record(name)
    perplexity = found["perplexity"]
    by_domain = {f"perplexity_{d}": perplexity.get(d) for d in DOMAINS if d != "all"}
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
    one_of("held-out domain", domain, corpus.DOMAINS)
    path = family_folder(preset_name) / "corpus" / "heldout" / f"{domain}.txt"
    if not path.parent.is_dir():
        raise NotTrained(
            f"the corpus of preset {preset_name} is not there yet (no {path}); run `moebook train "
            f"tiny --preset {preset_name}`"
        )
    if not path.is_file():
        raise UnknownTiny(
            f"the corpus of preset {preset_name} has no domain {domain!r}: user texts have the one "
            "domain 'all'"
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


RECORD = "training.json"
RECORDED = ("loss", "perplexity", "unigram_perplexity", "parameters", "steps", "tokens", "load")
CORPUS = "corpus.json"
ASIDE = ".damaged"


def damage(member: Path) -> str | None:
    """What is wrong with a trained member's folder; None of a whole one."""
    from safetensors import SafetensorError, safe_open

    try:
        record = _object(member / RECORD)
        if lacking := [name for name in RECORDED if name not in record]:
            return f"{RECORD} has no {', '.join(lacking)}"
        _object(member / "config.json")
        weights = sorted(member.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, framework="np"):  # its header, held against its size
                pass
    except (OSError, ValueError, SafetensorError) as error:
        return f"{type(error).__name__}: {error}"
    return None if weights else "it has no weights"


def corpus_damage(corpus: Path) -> str | None:
    """What is wrong with a corpus folder; None of a whole one."""
    try:
        _object(corpus / CORPUS)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None if any(corpus.glob("train-*.npy")) else "it has no tokens to train on"


def _object(path: Path) -> dict:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds no object")
    return found


def set_aside(folder: Path, why: str, say: Callable[[str], object]) -> None:
    """Move a damaged folder to NAME.damaged, in the place of an earlier one."""
    aside = folder.with_name(folder.name + ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    say(f"{folder} is damaged ({why}); set aside as {aside.name} and made again")
