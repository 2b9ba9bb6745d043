"""The number format of a checkpoint: how each of its matrices is stored, named and sized.

    >>> FP8_TENSOR.bytes(2048, 768)
    1572868.0

Most published formats cover a part of a model: MXFP4 the experts, FP8 all linear layers but the
router, a compressed-tensors file whatever its targets and its list of ignored modules say. A
`NumberFormat` is made of a config by quantization_config.py; here it is asked for the storage of a
module by name.

Sources: OCP Microscaling (MX) specification 1.0 (blocks of 32 share an 8-bit exponent); NVFP4 as
vLLM's ModelOpt reader has it (16 elements share an FP8 scale); FP8 as DeepSeek-V3 publishes it
(32-bit scales)."""

import math
import re
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property

PREFIXES = (
    *("model.language_model.", "language_model.model.", "language_model.", "model."),
    *("backbone.", "transformer."),
)
AMX = "amx_tile"  # the flag of a CPU that has Intel's matrix unit
FP4_CAPABILITY = 10.0  # NVIDIA's Blackwell is the first whose tensor cores multiply FP4


@dataclass(frozen=True)
class Stored:
    """How a matrix (rows = outputs, columns = inputs) is stored. bits: of an element; block: rows
    and columns that share a scale, 0 for all of them; scale_bits: of each scale, its zero point
    included; rate: matrix rate over bf16's, of the tensor cores that it is multiplied in; cpu: the
    flag of a CPU on which vLLM runs experts stored so, "" where it does on none."""

    name: str
    bits: float
    block: tuple[int, int] = (0, 0)
    scale_bits: int = 32
    rate: float = 1.0
    cpu: str = ""

    def bytes(self, rows: int, columns: int) -> float:
        """Of one matrix, scales included."""
        down, across = self.block[0] or rows, self.block[1] or columns
        scales = math.ceil(rows / down) * math.ceil(columns / across)
        return (rows * columns * self.bits + scales * self.scale_bits) / 8


MXFP4 = Stored("MXFP4", 4, (1, 32), 8, cpu=AMX)
NVFP4 = Stored("NVFP4", 4, (1, 16), 8, rate=4.0)
NVFP4_WEIGHTS = Stored("NVFP4, weights only", 4, (1, 16), 8)
MXFP8 = Stored("MXFP8", 8, (1, 32), 8, rate=2.0)
FP8_TENSOR = Stored("FP8 per tensor", 8, rate=2.0)
FP8_CHANNEL = Stored("FP8 per channel", 8, (1, 0), rate=2.0)


def fp8_blocks(rows: int, columns: int, activations: bool = True) -> Stored:
    """A scale for each block. activations: whether they are FP8 too."""
    name = f"FP8 blocks {rows}x{columns}" + ", weights only" * (not activations)
    return Stored(name, 8, (rows, columns), rate=2.0 if activations else 1.0, cpu=AMX)


def integers(bits: int, group: int, zero: bool, activations: str | None = None) -> Stored:
    """INT weights. group: columns that share a 16-bit scale, -1 or 0 for a whole row; zero: whether
    each scale has a zero point; activations: the format they are quantized to."""
    name = f"INT{bits} " + (f"groups of {group}" if group > 0 else "per channel")
    name += f", {activations} activations" if activations else ""
    rate, cpu = 2.0 if activations else 1.0, AMX if bits == 4 or activations else ""
    return Stored(name, bits, (1, max(group, 0)), 16 + bits * zero, rate, cpu)


@dataclass(frozen=True)
class Patterns:
    """Names of modules as quantization configs write them: whole names, parts of them between dots,
    wildcards (`model.layers.*.self_attn`), regular expressions (`re:.*gate$`) and, among targets,
    the class `Linear`."""

    given: tuple[str, ...] = ()

    @cached_property
    def _plain(self) -> frozenset[str]:
        return frozenset(bare(p) for p in self.given if not (p.startswith("re:") or "*" in p))

    @cached_property
    def _compiled(self) -> tuple[re.Pattern, ...]:
        return tuple(re.compile(p[3:]) for p in self.given if p.startswith("re:"))

    @cached_property
    def _wild(self) -> re.Pattern:
        """All that have wildcards; of a module that one names, what lies inside of it too."""
        given = [bare(p) for p in self.given if "*" in p and not p.startswith("re:")]
        return re.compile(
            "|".join(translate(end) for p in given for end in (p, f"{p}.*")) or "(?!)"
        )

    def problem(self) -> str | None:
        """What is wrong with a regular expression among them, or None."""
        for pattern in self.given:
            try:
                re.compile(pattern[3:] if pattern.startswith("re:") else "")
            except re.error as error:
                return f"{pattern!r} is no regular expression ({error})"
        return None

    def match(self, name: str) -> bool:
        """name: as transformers spells it, with or without the model's prefix."""
        name = bare(name)
        parts = name.split(".")
        inside = (
            ".".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)
        )
        if any(part in self._plain for part in inside):
            return True
        if self._wild.match(name):
            return True
        spelled = (name, *(prefix + name for prefix in PREFIXES))
        return any(regex.match(one) for regex in self._compiled for one in spelled)


def bare(name: str) -> str:
    """A module's name without the model's own prefix."""
    prefix = next((p for p in PREFIXES if name.startswith(p)), "")
    return name[len(prefix) :]


@dataclass(frozen=True)
class Rule:
    """Modules that are stored alike. targets: none for all linear layers and experts."""

    stored: Stored
    targets: Patterns = Patterns()

    def covers(self, names: tuple[str, ...]) -> bool:
        everything = not self.targets.given or "Linear" in self.targets.given
        return everything or any(self.targets.match(name) for name in names)


@dataclass(frozen=True)
class NumberFormat:
    """A checkpoint's own format. method: as the config says it; engine_names: what vLLM may call
    it once it is resolved; ignored: modules that stay in the model's dtype; experts_only: linear
    layers outside of the experts stay so too; head: whether the language head is stored so;
    refused: why no engine here runs it; kv_cache: dtype that the engine takes for its KV cache."""

    method: str
    engine_names: tuple[str, ...]
    rules: tuple[Rule, ...]
    ignored: Patterns = Patterns()
    experts_only: bool = False
    head: bool = False
    needs_capability: float | None = None
    refused: str | None = None
    kv_cache: str | None = None

    def stored(self, component: str, names: tuple[str, ...]) -> Stored | None:
        """Of a matrix of a component (models/sizes.py), by the names it may have; None: in the
        model's dtype. Routers and embeddings always are."""
        if component in KEPT or (component == "lm_head" and not self.head):
            return None
        if self.experts_only and component != "experts":
            return None
        if any(self.ignored.match(name) for name in names):
            return None
        return next((rule.stored for rule in self.rules if rule.covers(names)), None)

    @property
    def block(self) -> tuple[int, int] | None:
        """Rows and columns of a block whose scale cannot be split (FP8 in blocks); None where a
        shard of any width has whole scales."""
        blocks = [rule.stored.block for rule in self.rules]
        return next((b for b in blocks if b[0] > 1), None)

    @property
    def rate(self) -> float:
        """Matrix rate over bf16's."""
        return self.rules[0].stored.rate if self.rules else 1.0

    def problem(self, capability: float | None) -> str | None:
        """Why a device of this CUDA compute capability (None: not known) does not run the format,
        or None."""
        if self.refused:
            return self.refused
        if self.needs_capability is None or capability is None:
            return None
        if capability >= self.needs_capability:
            return None
        here = f"this device has {capability:.1f}" if capability else "a CPU has none of them"
        fp4 = next((r.stored for r in self.rules if r.stored.rate > 2), self.rules[0].stored)
        return (
            f"{fp4.name} is multiplied by tensor cores from compute capability "
            f"{self.needs_capability:.1f} (Blackwell) on, {here}: ask for another format, such as "
            "bf16 or fp8"
        )


KEPT = ("router", "embedding", "norms", "vision")
