"""Which model classes the engine has, by the names that configs give them."""

from moebook.engine.vllm.patches import seen_in


@seen_in("0.26", "0.32")
def words(classes: tuple[str, ...]) -> str:
    """What the engine's registry of models says of these classes."""
    from vllm import __version__
    from vllm.model_executor.models.registry import ModelRegistry

    known = set(ModelRegistry.get_supported_archs())
    has = [name for name in classes if name in known]
    lacks = [name for name in classes if name not in known]
    said = [f"has a class {name}" for name in has] + [f"has no class {name}" for name in lacks]
    return f"vLLM {__version__} {', '.join(said) or 'was asked of no class, for none is named'}"
