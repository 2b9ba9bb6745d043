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
TRUST = "MOEBOOK_TRUST_REMOTE_CODE"


def names() -> list[str]:
    """Names of the catalog, sorted without regard to case."""
    return sorted((path.stem for path in CONFIGS.glob("*.json")), key=str.lower)


def own_spelling(name: str) -> str:
    """A catalog's name as the catalog spells it, whatever its case; anything else as it is."""
    return {own.lower(): own for own in names()}.get(name.lower(), name)


@cache
def sources() -> dict[str, dict]:
    """sources.yaml: by name the source, confidence, published counts, notes, and the row that the
    slide prints."""
    return yaml.load(SOURCES.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def load(name_or_path: str, trust_remote_code: bool | None = None) -> Architecture:
    """An Architecture by catalog name (case ignored), checkpoint folder, path of a config.json,
    Hugging Face id ("owner/name"), or reference of the tiny family ("tiny:cpu/aux-0.01", also while
    it is not trained).

    trust_remote_code: whether Python code that lies beside a config may be run to read it; None: as
    the environment variable TRUST says, by default no. Raises UnknownModel."""
    wanted = str(name_or_path)
    if wanted.startswith("tiny:"):
        from moebook.models.tiny import family

        return family.architecture(wanted)
    if (name := own_spelling(wanted)) in sources():
        return _load_published(name)
    trusts = trusted_by_default() if trust_remote_code is None else trust_remote_code
    if not wanted.strip():
        raise _unknown(wanted, "is no name")
    try:
        path = Path(wanted).expanduser()
        folder, file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # too long a name, ~ of a user that is none
        why = getattr(error, "strerror", None) or error
        raise UnknownModel(f"model {wanted[:80]!r} cannot be read: {why}") from error
    if folder or file:
        return _load_file(path / CONFIG if folder else path, trusts)
    if len(wanted.split("/")) == 2 and not wanted.startswith((".", "/", "~")):
        return _load_hub(wanted, trusts)
    raise _unknown(wanted, "is no catalog model, no folder and no file")


def trusted_by_default() -> bool:
    """Whether the environment variable TRUST is 1. UnknownModel where it is neither 1 nor 0."""
    given = os.environ.get(TRUST, "")
    if given not in ("", "0", "1"):
        raise UnknownModel(f"{TRUST}: given {given!r}; 1 to run code beside a config, or 0")
    return given == "1"


@cache
def _load_published(name: str) -> Architecture:
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    return from_config(config, name, sources()[name]["source"])


def _load_file(path: Path, trusts: bool) -> Architecture:
    """A config.json; the model is named after the folder that holds it, or after the file where it
    is called otherwise."""
    folder = Path(os.path.abspath(path.parent))  # a link has the name it was given
    if not path.is_file():
        raise _unknown(str(path.parent), f"is a folder without {path.name}{_instead(folder)}")
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UnknownModel(f"{path} is not valid JSON: {error}") from error
    except OSError as error:
        raise UnknownModel(f"{path} cannot be read: {error}") from error
    if isinstance(config, dict) and config.get("quantization_config") is None:
        _check_beside(folder)
        config |= _modelopt_entry(folder / HF_QUANT_CONFIG)
    own_name = folder.name if path.name == CONFIG else path.stem
    label = own_name.replace("[", "(").replace("]", ")")  # in which edits are written
    where = folder if path.name == CONFIG else folder / path.name
    return from_config(config, label, f"checkpoint folder {where}", str(folder) if trusts else None)


def _instead(folder: Path) -> str:
    """What a folder without config.json holds that a user may take for a model."""
    if (folder / "adapter_config.json").is_file():
        return " but of an adapter: merge it into its base model, or name that"
    if any(folder.glob("*.gguf")):
        return " but of a GGUF file: name the model that it was converted from"
    if (folder / "params.json").is_file():
        return " but with Mistral's params.json: take the folder in Hugging Face's layout"
    return ""


def _check_beside(folder: Path) -> None:
    """UnknownModel where the first tools of GPTQ and AWQ say a number format beside the config."""
    for file, method in (("quantize_config.json", "gptq"), ("quant_config.json", "awq")):
        if (folder / file).is_file():
            raise UnknownModel(
                f"{folder / file} says a number format, which the engine reads from config.json "
                f"alone: put it there as quantization_config, with quant_method {method!r}"
            )


def _modelopt_entry(path: Path) -> dict:
    """`quantization_config` from the file that ModelOpt before 0.31 writes beside the config, as
    the engine reads it; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        return {"quantization_config": json.loads(path.read_text())}
    except ValueError as error:
        raise UnknownModel(f"{path} is not valid JSON: {error}") from error


def _load_hub(name: str, trusts: bool) -> Architecture:
    from transformers.configuration_utils import PreTrainedConfig
    from transformers.utils import cached_file

    try:
        config, _ = PreTrainedConfig.get_config_dict(name)
        if config.get("quantization_config") is None:
            there = cached_file(name, HF_QUANT_CONFIG, _raise_exceptions_for_missing_entries=False)
            config |= _modelopt_entry(Path(there)) if there else {}
    except (OSError, ValueError, ImportError) as error:
        why = str(error).splitlines()[0]
        raise _unknown(name, f"could not be read from Hugging Face ({why})") from error
    return from_config(config, name, f"Hugging Face {name}", name if trusts else None)


def _unknown(given: str, what: str) -> UnknownModel:
    near = _nearest(given.split("/")[-1].lower())
    hint = "nearest catalog names: " + ", ".join(near) if near else "no catalog name is near"
    return UnknownModel(
        f"model {given!r} {what}; {hint}. Give a catalog name (`moebook models` lists them), a "
        "folder with config.json, the path of a config.json, or a Hugging Face id such as "
        "'mistralai/Mixtral-8x7B-v0.1'."
    )


def _nearest(given: str) -> list[str]:
    """Up to three catalog names: those that contain what was given, then those spelled like it."""
    by_lower = {name.lower(): name for name in names()}
    containing = [name for name in by_lower if given in name]
    alike = get_close_matches(given, by_lower, n=3, cutoff=0.4)
    return [by_lower[name] for name in dict.fromkeys(containing + alike)][:3]
