"""Which experts the measured rows chose, and what perplexity rises by without one: what figures,
commentary and claims share.

Letters: S training steps, L MoE layers, E experts."""

import json

import numpy as np
import pandas as pd

from moebook.plot.figure import rows_of, with_numbers
from moebook.results.balance import (
    Correlation,
    overall,
    rank_correlation,
    sampling_floor,
    statistics,
)

BASE = "no-balance"  # the variant that the others are compared with
TRAINED = "trained"  # series of checkpoints that are not of the tiny family, named by their model


def array(text: str) -> np.ndarray:
    """The numbers of a column that holds JSON text."""
    return np.array(json.loads(text), float)


def with_variant(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with `variant`: the training variant, or the name of a checkpoint of one's own."""
    return rows.assign(variant=rows["series"].where(rows["series"] != TRAINED, rows["model"]))


def counts_of(rows: pd.DataFrame) -> np.ndarray:
    """(L, E) choices of all rows together."""
    return sum(array(text) for text in rows["expert_counts"])


def over_uniform(counts: np.ndarray) -> np.ndarray:
    """(L, E) share of a layer's choices over the uniform share 1/E."""
    return counts * counts.shape[1] / np.maximum(counts.sum(1, keepdims=True), 1)


def shares(rows: pd.DataFrame, by_text: bool = False) -> pd.DataFrame:
    """A row per variant (and text), layer and expert: its rank among the choices of all texts, its
    choices, and their share over the uniform one. Columns model, variant, text, layer, rank,
    expert, choices, over_uniform."""
    found = []
    for variant, own in rows.groupby("variant", sort=False):
        order = np.argsort(-counts_of(own), axis=1, kind="stable")
        for text, part in own.groupby("text", sort=False) if by_text else [("all", own)]:
            counts = counts_of(part)
            cells = _per_expert(order, choices=counts, over_uniform=over_uniform(counts))
            cells["rank"] = cells.groupby("layer").cumcount() + 1
            found.append(cells.assign(model=own["model"].iloc[0], variant=variant, text=text))
    return pd.concat(found, ignore_index=True)


def _per_expert(order: np.ndarray, **values: np.ndarray) -> pd.DataFrame:
    """A row per layer and expert of values (L, E), the experts of each layer in the order given."""
    layer = np.indices(order.shape)[0].ravel() + 1
    taken = {name: np.take_along_axis(v, order, 1).ravel() for name, v in values.items()}
    return pd.DataFrame({"layer": layer, "expert": order.ravel(), **taken})


def with_perplexity(summary: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Rows of the sweep balance with `text_perplexity`, that of the variant on the same text.
    ValueError where there are none."""
    rows = rows_of(summary, figure, "balance", ("series", "text", "balance_cv"))
    rows = with_numbers(rows, figure, ["balance_cv"])
    rows = rows.assign(of_text="perplexity_" + rows["text"])
    trained = rows_of(summary, figure, "training", ("series",))
    known = [column for column in rows["of_text"].unique() if column in trained]
    trained = trained.melt("series", known, var_name="of_text", value_name="text_perplexity")
    found = rows.merge(trained, how="left", on=["series", "of_text"])
    return with_numbers(found.astype({"text_perplexity": float}), figure, ["text_perplexity"])


def increase_pct(row: pd.Series) -> np.ndarray:
    """(L, E) by how many percent perplexity rises without each expert; over the whole text, in
    older tables over the median of its parts."""
    base = row.get("base_perplexity", np.nan)
    base = row["perplexity"] if pd.isna(base) else base
    return 100 * (array(row["ablation_perplexity"]) / float(base) - 1)


def removed(row: pd.Series) -> pd.DataFrame:
    """A row per layer and expert of a row of the sweep `importance`: over_uniform, increase_pct."""
    over = over_uniform(array(row["expert_counts"]))
    numbers = np.indices(over.shape)[1]
    cells = _per_expert(numbers, over_uniform=over, increase_pct=increase_pct(row))
    return cells.assign(model=row.get("model"), series=row["series"])


def importance(row: pd.Series) -> Correlation:
    """Rank correlation of how often experts are chosen with what perplexity rises by without them,
    of a row of the sweep `importance`."""
    return rank_correlation(array(row["expert_counts"]), increase_pct(row))


def load_course(row: pd.Series) -> pd.DataFrame:
    """Load of a variant at each recorded step of its training, on one fixed batch: step, cv and
    max_over_mean (means over layers), and cv_by_chance, which an even router would show."""
    counts = array(row["load_counts"])  # (S, L, E)
    found = statistics(counts)
    course = {name: overall(found[name]) for name in ("cv", "max_over_mean")}
    tokens = counts.sum(-1).mean() / row["top_k"]
    chance = sampling_floor(tokens, row["top_k"], counts.shape[-1])["cv"]
    steps = json.loads(row["load_steps"])
    return pd.DataFrame({"series": row["series"], "step": steps, **course, "cv_by_chance": chance})
