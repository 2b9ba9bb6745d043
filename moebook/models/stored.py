"""How one matrix is stored in a number format, scales included: names and bytes.

    >>> FP8_TENSOR.bytes(2048, 768)
    1572868.0

Sources: OCP Microscaling (MX) specification 1.0 (blocks of 32 share an 8-bit exponent); NVFP4 as
vLLM's ModelOpt reader has it (16 elements share an FP8 scale); FP8 as DeepSeek-V3 publishes it
(32-bit scales)."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Stored:
    """How a matrix (rows = outputs, columns = inputs) is stored. bits: of an element; block: rows
    and columns that share a scale, 0 for all of them; scale_bits: of each scale, its zero point
    included; rate: matrix rate over bf16's, of the tensor cores that it is multiplied in."""

    name: str
    bits: float
    block: tuple[int, int] = (0, 0)
    scale_bits: int = 32
    rate: float = 1.0

    def bytes(self, rows: int, columns: int) -> float:
        """Of one matrix, scales included."""
        down, across = self.block[0] or rows, self.block[1] or columns
        scales = math.ceil(rows / down) * math.ceil(columns / across)
        return (rows * columns * self.bits + scales * self.scale_bits) / 8


MXFP4 = Stored("MXFP4", 4, (1, 32), 8)
NVFP4 = Stored("NVFP4", 4, (1, 16), 8, rate=4.0)
NVFP4_WEIGHTS = Stored("NVFP4, weights only", 4, (1, 16), 8)
MXFP8 = Stored("MXFP8", 8, (1, 32), 8, rate=2.0)
FP8_TENSOR = Stored("FP8 per tensor", 8, rate=2.0)
FP8_CHANNEL = Stored("FP8 per channel", 8, (1, 0), rate=2.0)


def fp8_blocks(rows: int, columns: int, activations: bool = True) -> Stored:
    """A scale for each block. activations: whether they are FP8 too."""
    name = f"FP8 blocks {rows}x{columns}" + ", weights only" * (not activations)
    return Stored(name, 8, (rows, columns), rate=2.0 if activations else 1.0)


def integers(bits: int, group: int, zero: bool, activations: str | None = None) -> Stored:
    """INT weights. group: columns that share a 16-bit scale, -1 or 0 for a whole row; zero: whether
    each scale has a zero point; activations: the format they are quantized to."""
    name = f"INT{bits} " + (f"groups of {group}" if group > 0 else "per channel")
    name += f", {activations} activations" if activations else ""
    return Stored(name, bits, (1, max(group, 0)), 16 + bits * zero, 2.0 if activations else 1.0)
