"""Tables of section 0: where the source contradicts itself, the verdicts on its claims, agreement
with the reference."""

from typing import NamedTuple

import pandas as pd

from moebook.results.findings import Verdict
from moebook.sections import profile


class Conflict(NamedTuple):
    """Two statements of the source that exclude each other, and the claims that this touches."""

    id: str
    about: str
    says: str
    also_says: str
    claims: tuple[str, ...] = ()


CONFLICTS = (
    Conflict(
        "batch-linear",
        "batch scaling",
        "throughput grows sub-linearly, by two orders of magnitude from batch 1 to 128",
        "throughput grows linearly with batch, over 8 times",
        ("batch-scaling",),
    ),
    Conflict(
        "converge-or-gap",
        "active experts at FFN 14336",
        "throughputs of different active-expert counts converge at FFN 14336",
        "1 active expert is 60-80 % faster than 8 at large FFN",
        ("ffn-converges", "active-gap-large"),
    ),
    Conflict(
        "nine-or-eight-tasks",
        "accuracy tasks",
        "nine language tasks are announced",
        "eight are listed: ARC-c, ARC-e, BoolQ, HellaSwag, MMLU, OpenBookQA, RTE, WinoGrande",
    ),
    Conflict(
        "table-1-shapes",
        "model shapes",
        "the slide's Table 1 prints, for example, Qwen3-30B-A3B with hidden 5120 and FFN 13824",
        "the published config has hidden 2048 and FFN 768; six rows of the table differ from the "
        "configs",
    ),
    Conflict(
        "mixtral-on-one-gpu",
        "parallelism",
        "Mixtral-8x7B in FP16 has a point at one 80 GB H100",
        "its FP16 weights alone are 93 GB",
        ("tp-scales",),
    ),
    Conflict(
        "scout-on-one-gpu",
        "accelerators",
        "Llama-4-Scout was run on one H100 beside one CS-3",
        "at 109 B parameters it fits one H100 in INT4 only, while CS-3 held FP8 weights: not like "
        "for like",
        ("cs3-latency", "h100-knee"),
    ),
    Conflict(
        "length-direction",
        "input length",
        "throughput increases with input length",
        "its own figure shows throughput falling with length",
        ("length-penalty",),
    ),
    Conflict(
        "pruning-gain",
        "pruning",
        "50 % pruning raises throughput significantly",
        "pruning does not significantly speed up vLLM (LExI)",
        ("prune-half-helps", "prune-no-gain"),
    ),
)


def conflicts() -> pd.DataFrame:
    """A row per place where the source contradicts itself."""
    rows = pd.DataFrame(CONFLICTS).rename(columns={"also_says": "also says"})
    return rows.assign(claims=rows["claims"].map(lambda ids: ", ".join(ids) or "–"))


def verdicts(run) -> list[Verdict]:
    """On all claims, from the profile's results; where they come from is printed."""
    if run.params.dry_run:
        print("dry run: no results are read")
        return []
    found, origins = profile.all_verdicts(run.params.profile, run.params.output_root)
    print("\n".join(origins))
    return found


def compared(run) -> pd.DataFrame | None:
    """Own results over the reference's, a row a notebook; what there is to say of each is
    printed."""
    if run.params.dry_run:
        print("dry run: no results are read")
        return None
    found = profile.compared(run.params.profile, run.params.output_root)
    tables = [one.table for one in found if not one.table.empty]
    if not tables:
        print(
            f"No point of profile {run.params.profile!r} was measured both here and for the "
            f"reference: nothing to compare."
        )
        return None
    print("\n".join(one.text for one in found))
    by_notebook = pd.concat(tables).groupby("notebook", sort=False)
    return by_notebook.agg(
        points=("ratio", "size"),
        median=("ratio", "median"),
        least=("ratio", "min"),
        most=("ratio", "max"),
        ranges_overlap=("within", "sum"),
    ).reset_index()
