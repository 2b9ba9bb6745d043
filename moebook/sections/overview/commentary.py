"""Section 0 in words and tables: how the claims of the source fare, where it contradicts itself,
agreement with the reference; and Fig 1, of which section 9 speaks."""

from collections import Counter
from html import escape
from typing import NamedTuple

import pandas as pd

from moebook.results.cards import counted, effect_of
from moebook.results.findings import Verdict
from moebook.results.page import BOX, Html, chip
from moebook.sections import profile
from moebook.sections.model_comparison.commentary import parameter_breakdown

__all__ = ["page", "parameter_breakdown"]

MOST = 10  # findings on the page
DECIDED = ("supported", "contradicted", "mixed")  # the surest first


def page(verdicts: list[Verdict]) -> Html:
    """The page a reader can quote: how the claims fare, and up to ten findings, each with its
    number, 95 % interval, cells, condition and verdict."""
    shown = findings(verdicts)
    rows = "".join(map(_row, shown))
    table = f'<table style="font-size:90%;margin-top:8px">{rows}</table>'
    head = (
        f"Of {len(verdicts)} claims: {counted(verdicts)}." if verdicts else "No claim was judged."
    )
    decided = sum(v.verdict in DECIDED for v in verdicts)
    if decided < len(verdicts):
        head += f" Here {len(shown)} of the {decided} decided; the cards of others say why not."
    text = "\n".join([head, *(f"  {v.id}: {v.label}, {effect_of(v) or v.reason}" for v in shown)])
    return Html(f'<div style="{BOX}"><div style="font-size:115%">{head}</div>{table}</div>', text)


def findings(verdicts: list[Verdict]) -> list[Verdict]:
    """Up to MOST decided claims, in the study's order: the surest of each section, then each
    section's next. Surer is what holds or not over what is mixed, wholly tested over in part, under
    more of its checks, on more cells."""
    decided = sorted((v for v in verdicts if v.verdict in DECIDED), key=_doubt)
    seen: Counter = Counter()
    rounds = {}
    for v in decided:
        rounds[v.id] = seen[v.section]
        seen[v.section] += 1
    chosen = {v.id for v in sorted(decided, key=lambda v: rounds[v.id])[:MOST]}
    return [v for v in verdicts if v.id in chosen]


def _doubt(v: Verdict) -> tuple:
    robust = sum(check.same for check in v.checks) / max(1, len(v.checks))
    return v.verdict == "mixed", "in part" in v.label, -robust, -v.n


def _row(v: Verdict) -> str:
    number = f"<b>{effect_of(v)}</b>; {v.met} of {v.n} cells hold" if v.effect is not None else ""
    where = escape(str(v.condition) if v.effect is not None else v.reason)
    cells = (chip(v.verdict, v.label), f"{escape(v.statement)}<br>{number}", where)
    left = "text-align:left;vertical-align:top"
    return f"<tr>{''.join(f'<td style={chr(34)}{left}{chr(34)}>{one}</td>' for one in cells)}</tr>"


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
