"""Published models, and any model whose config.json is at hand, by name.

    >>> load("mixtral-8x7b-v0.1").top_k
    2

The configs under `configs/` are the published Hugging Face files; `sources.yaml` says where each
was read."""

import json
import os
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml

from moebook.models.architecture import Architecture, UnknownModel, from_config
from moebook.models.quantization_config import HF_QUANT_CONFIG

CONFIG = "config.json"
CONFIGS = Path(__file__).parent / "configs"
SOURCES = Path(__file__).parent / "sources.yaml"


def names() -> list[str]:
    """Names of the catalog, sorted without regard to case."""
    return sorted((path.stem for path in CONFIGS.glob("*.json")), key=str.lower)


@cache
def sources() -> dict[str, dict]:
    """sources.yaml: by name the source, confidence, published counts, notes, and the row that the
    slide prints."""
    return yaml.load(SOURCES.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def load(name_or_path: str) -> Architecture:
    """An Architecture by catalog name (case ignored), checkpoint folder or its config.json, Hugging
    Face id ("owner/name"), or reference of the tiny family ("tiny:cpu/aux-0.01", also while it is
    not trained). Raises UnknownModel."""
    wanted = str(name_or_path)
    if wanted.startswith("tiny:"):
        from moebook.models.tiny import family

        return family.architecture(wanted)
    published = {name.lower(): name for name in names()}
    if wanted.lower() in published:
        return _load_published(published[wanted.lower()])
    folder = Path(wanted).expanduser()
    if folder.name == CONFIG and folder.is_file():
        folder = folder.parent
    if folder.is_dir():
        return _load_folder(folder)
    if len(wanted.split("/")) == 2 and not wanted.startswith((".", "/", "~")):
        return _load_hub(wanted)
    raise _unknown(wanted, "is no catalog model and no folder")


@cache
def _load_published(name: str) -> Architecture:
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    return from_config(config, name, sources()[name]["source"])


def _load_folder(folder: Path) -> Architecture:
    path = folder / CONFIG
    if not path.is_file():
        raise _unknown(str(folder), "is a folder without config.json")
    try:
        config = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UnknownModel(f"{path} is not valid JSON: {error}") from error
    if isinstance(config, dict) and config.get("quantization_config") is None:
        config |= _modelopt_entry(folder / HF_QUANT_CONFIG)
    where = Path(os.path.abspath(folder))  # a link has the name it was given
    label = where.name.replace("[", "(").replace("]", ")")  # in which edits are written
    return from_config(config, label, f"checkpoint folder {where}")


def _modelopt_entry(path: Path) -> dict:
    """`quantization_config` from the file that ModelOpt before 0.31 writes beside the config, as
    the engine reads it; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        return {"quantization_config": json.loads(path.read_text())}
    except json.JSONDecodeError as error:
        raise UnknownModel(f"{path} is not valid JSON: {error}") from error


def _load_hub(name: str) -> Architecture:
    from transformers import AutoConfig
    from transformers.utils import cached_file

    try:
        config = AutoConfig.from_pretrained(name).to_dict()
        if config.get("quantization_config") is None:
            there = cached_file(name, HF_QUANT_CONFIG, _raise_exceptions_for_missing_entries=False)
            config |= _modelopt_entry(Path(there)) if there else {}
    except (OSError, ValueError, ImportError) as error:
        why = str(error).splitlines()[0]
        raise _unknown(name, f"could not be read from Hugging Face ({why})") from error
    return from_config(json.loads(json.dumps(config, default=str)), name, f"Hugging Face {name}")


def _unknown(given: str, what: str) -> UnknownModel:
    near = _nearest(given.split("/")[-1].lower())
    hint = "nearest catalog names: " + ", ".join(near) if near else "no catalog name is near"
    return UnknownModel(
        f"model {given!r} {what}; {hint}. Give a catalog name (moebook.models.catalog.names() "
        "lists them), a folder with config.json, or a Hugging Face id such as "
        "'mistralai/Mixtral-8x7B-v0.1'."
    )


def _nearest(given: str) -> list[str]:
    """Up to three catalog names: those that contain what was given, then those spelled like it."""
    by_lower = {name.lower(): name for name in names()}
    containing = [name for name in by_lower if given in name]
    alike = get_close_matches(given, by_lower, n=3, cutoff=0.4)
    return [by_lower[name] for name in dict.fromkeys(containing + alike)][:3]
