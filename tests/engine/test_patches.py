"""What reaches into vLLM: seen in the version installed, and nowhere else."""

import ast
import functools
import gc
import importlib
import importlib.util
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from moebook import devices, engine
from moebook.engine.vllm import patches

MODULES = ("patches", "patches_built", "patches_routers", "patches_variants", "patches_layer")
PACKAGE = Path(patches.__file__).parents[2]
ROOM = PACKAGE / "engine" / "vllm"
# Attributes of vLLM's objects that its documented LLM class does not have.
INSIDE = {
    *("llm_engine", "engine_core", "vllm_config", "model_runner", "model_executor"),
    *("quant_method", "moe_kernel", "_compute_routing"),
    *("cudagraph_manager", "capture_model", "global_num_experts", "moe_quant_config"),
}


def imported(tree: ast.Module) -> Iterator[tuple[str, str | None, ast.AST]]:
    """(module, name or None, node) of every import from vLLM."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in found:
            if module.split(".")[0] == "vllm":
                yield module, name, node


@functools.cache
def sources() -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))]


def test_only_the_engines_room_imports_vllm():
    users = {path for path, tree in sources() if any(imported(tree))}
    assert users and {path.parent for path in users} == {ROOM}


def test_only_patches_reach_into_its_objects():
    for path, tree in sources():
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if not (path.parent == ROOM and path.stem.startswith("patches")):
            assert not INSIDE & attributes, path


def test_only_patches_and_the_benchmark_import_more_than_its_public_names():
    for path, tree in sources():
        if path.stem not in (*MODULES, "bench_serve"):
            assert {module for module, _, _ in imported(tree)} <= {"vllm"}, path


def test_the_installed_version_is_one_that_the_patches_were_seen_in():
    package, _, version = engine.version(devices.detect().kind).partition(" ")
    assert version, "no vLLM is installed, so nothing says that its patches hold"
    series = ".".join(version.split(".")[:2])
    assert series in patches.VERSIONS, (
        f"{package} {version} is new to moebook/engine/vllm/patches*.py: check each function "
        f'against it, run the tests marked `engine`, and add "{series}" to patches.VERSIONS'
    )


def test_every_name_that_patches_import_is_in_the_installed_version():
    missing = []
    for name in MODULES:
        tree = ast.parse((ROOM / f"{name}.py").read_text())
        guarded = {
            id(node) for t in ast.walk(tree) if isinstance(t, ast.Try) for node in ast.walk(t)
        }
        for module, wanted, node in imported(tree):
            if id(node) not in guarded and not has(module, wanted):
                missing.append(f"{name}: {module}.{wanted}")
    assert not missing


def has(module: str, name: str | None) -> bool:
    """Whether the installed vLLM has a module, and a name or submodule in it: by its
    source."""
    root = Path(importlib.util.find_spec("vllm").origin).parent
    folder = root.joinpath(*module.split(".")[1:])
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if not file.is_file():
        return False
    if name is None or (folder / f"{name}.py").is_file() or (folder / name).is_dir():
        return True
    tree = ast.parse(file.read_text())
    bound = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    bound |= {(n.asname or n.name) for n in ast.walk(tree) if isinstance(n, ast.alias)}
    return name in bound or f'"{name}"' in file.read_text()


class Engine:
    def __init__(self):
        self.itself = self


def test_a_cycle_outlives_the_block_and_goes_with_the_collection_after_it():
    engine = Engine()
    seen = weakref.ref(engine)
    with patches.uncollected():
        del engine
        gc.collect()
        assert seen() is not None
    patches.collect()
    assert seen() is None and gc.get_freeze_count() > 1000
    gc.unfreeze()


def test_the_interpreters_own_functions_are_back_after_an_error():
    plain = gc.collect, gc.freeze, gc.unfreeze
    with pytest.raises(RuntimeError), patches.uncollected():
        assert gc.collect is not plain[0]
        raise RuntimeError
    assert (gc.collect, gc.freeze, gc.unfreeze) == plain
