"""Formats that a config spells out: the groups of compressed-tensors, the algorithms of ModelOpt.

Both give rules (which modules are stored how) and whether one of them multiplies in FP4."""

from moebook.models.number_format import (
    FP8_CHANNEL,
    FP8_TENSOR,
    MXFP4,
    MXFP8,
    NVFP4,
    NVFP4_WEIGHTS,
    Patterns,
    Rule,
    Stored,
    fp8_blocks,
    integers,
)

STRATEGIES = ("tensor", "channel", "group", "block", "tensor_group")
PACKED = {"nvfp4-pack-quantized": NVFP4, "mxfp4-pack-quantized": MXFP4}
ALGORITHMS = {
    "FP8": FP8_TENSOR,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNEL,
    "FP8_PB_WO": fp8_blocks(128, 128, activations=False),
    "NVFP4": NVFP4,
    "W4A16_NVFP4": NVFP4_WEIGHTS,
    "MXFP8": MXFP8,
}


class BadNumberFormat(ValueError):
    """A quantization config that cannot be read; the text says what was given and what is
    allowed."""


def names_of(entry: dict, *keys: str) -> Patterns:
    """Module names of the first of the keys that is there."""
    for key in keys:
        if (found := entry.get(key)) is not None:
            return names(key, found)
    return Patterns()


def names(key: str, given: object) -> Patterns:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise BadNumberFormat(f"{key}: given {given!r}; a list of module names")
    patterns = Patterns(tuple(given))
    if problem := patterns.problem():
        raise BadNumberFormat(f"{key}: {problem}")
    return patterns


def whole(entry: dict, *keys: str, allowed: tuple[int, ...] = (), default: int | None = None):
    """A whole number under the first of the keys that is there. allowed: its values; none: all."""
    value = next((entry[key] for key in keys if entry.get(key) is not None), default)
    right = isinstance(value, int) and not isinstance(value, bool)
    if not right or (allowed and value not in allowed):
        wanted = " or ".join(map(str, allowed)) if allowed else "a whole number"
        raise BadNumberFormat(f"{keys[0]}: given {value!r}; {wanted}")
    return value


def group_size(entry: dict, *keys: str, default: int | None = None) -> int:
    """Columns that share a scale; -1 for a whole row."""
    value = whole(entry, *keys, default=default)
    if value != -1 and value < 1:
        raise BadNumberFormat(f"{keys[0]}: given {value}; -1 for a whole row, or 1 and more")
    return value


def pair(key: str, given: object) -> tuple[int, int]:
    """Rows and columns of a block."""
    if not (isinstance(given, list) and len(given) == 2 and all(map(_positive, given))):
        raise BadNumberFormat(
            f"{key}: given {given!r}; two whole numbers over 0, such as [128, 128]"
        )
    return given[0], given[1]


def mapping(key: str, given: object, of: str) -> dict:
    if not isinstance(given, dict):
        raise BadNumberFormat(f"{key}: given {given!r}; a mapping of {of}")
    return given


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def compressed_rules(entry: dict) -> tuple[tuple[Rule, ...], bool]:
    """Of `config_groups`. Groups that name modules go before those of all linear layers."""
    groups = mapping("config_groups", entry.get("config_groups"), "groups by name")
    rules = [rule for name, group in groups.items() for rule in _group(name, group, entry)]
    if not rules:
        raise BadNumberFormat("config_groups: no group has weights; the format covers nothing")
    rules.sort(key=lambda rule: "Linear" in rule.targets.given)
    return tuple(rules), any(rule.stored is NVFP4 for rule in rules)


def _group(name: str, group: object, entry: dict) -> list[Rule]:
    """The rule of one group; none where it leaves the weights as they are."""
    where = f"config_groups.{name}"
    group = mapping(where, group, "targets and weights")
    targets = names(f"{where}.targets", group.get("targets"))
    if group.get("weights") is None:
        return []
    weights = mapping(f"{where}.weights", group["weights"], "num_bits, type and strategy")
    packed = PACKED.get(group.get("format") or entry.get("format"))
    if packed:
        _in_blocks(packed, weights)
    stored = packed or _weights(f"{where}.weights", weights, group.get("input_activations"))
    return [Rule(stored, targets)]


def _weights(where: str, weights: dict, activations: object) -> Stored:
    """From the type, the number of bits, and what shares a scale."""
    kind, group = weights.get("type", "int"), weights.get("group_size")
    strategy = weights.get("strategy") or ("group" if group else "tensor")
    for key, given, allowed in (
        ("type", kind, ("int", "float")),
        ("strategy", strategy, STRATEGIES),
    ):
        if given not in allowed:
            raise BadNumberFormat(f"{where}.{key}: given {given!r}; {', '.join(allowed)}")
    bits = whole(weights, "num_bits", allowed=(4, 8))
    if kind == "int":
        columns = group_size(weights, "group_size") if strategy == "group" else -1
        return integers(bits, columns, not weights.get("symmetric", True), _kind(activations))
    if bits == 4:
        return MXFP4 if group == 32 else NVFP4 if activations else NVFP4_WEIGHTS
    return _float8(where, weights, strategy, activations is not None)


def _in_blocks(stored: Stored, told: dict) -> Stored:
    """The format, unless a `group_size` is given that is not its block's."""
    columns = stored.block[1]
    if stored.block[0] == 1 and columns:
        whole(told, "group_size", allowed=(columns,), default=columns)
    return stored


def _kind(activations: object) -> str | None:
    """`INT8` or `FP8`; None where activations stay as they are."""
    if activations is None:
        return None
    told = mapping("input_activations", activations, "num_bits and type")
    return f"{'FP' if told.get('type') == 'float' else 'INT'}{told.get('num_bits', 8)}"


def _float8(where: str, weights: dict, strategy: str, activations: bool) -> Stored:
    if strategy == "block":
        given = weights.get("block_structure")
        sides = given.split("x") if isinstance(given, str) else ()  # "128x128", as it was written
        sides = [int(side) if side.isdecimal() else side for side in sides]
        block = pair(f"{where}.block_structure", sides or given)
        return fp8_blocks(*block, activations=activations)
    if strategy == "group":
        columns = group_size(weights, "group_size")
        return MXFP8 if columns == 32 else Stored(f"FP8 groups of {columns}", 8, (1, columns))
    stored = FP8_CHANNEL if strategy == "channel" else FP8_TENSOR
    return stored if activations else Stored(f"{stored.name}, weights only", 8, stored.block)


def modelopt_rules(told: dict) -> tuple[tuple[Rule, ...], bool]:
    """Of `quant_algo`, of a mixed checkpoint those of its layers."""
    if str(told.get("quant_algo")).upper() == "MIXED_PRECISION":
        layers = mapping("quantized_layers", told.get("quantized_layers"), "algorithms by layer")
        found: dict[Stored, list[str]] = {}
        for layer, own in layers.items():
            found.setdefault(algorithm(own), []).append(layer)
        rules = tuple(Rule(stored, Patterns(tuple(names))) for stored, names in found.items())
    else:
        rules = (Rule(algorithm(told)),)
    return rules, any(rule.stored is NVFP4 for rule in rules)


def algorithm(told: object) -> Stored:
    given = told.get("quant_algo") if isinstance(told, dict) else told
    if (name := str(given).upper()) not in ALGORITHMS:
        raise BadNumberFormat(f"quant_algo: given {given!r}; known: {', '.join(ALGORITHMS)}")
    return _in_blocks(ALGORITHMS[name], told if isinstance(told, dict) else {})
