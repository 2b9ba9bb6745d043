"""Results of a plan as a notebook uses them: one's own where there are any, the shipped reference
otherwise.

Both lie in files of the same kind: a JSON per point, or where those are not at hand the whole table
in results.parquet. Reading writes nothing."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pandas as pd

from moebook import devices, paths
from moebook.measure.store import Found, Store
from moebook.predict import layers
from moebook.predict.columns import add_predictions
from moebook.predict.roofline import ArchitectureOf, Ceilings, add_floor
from moebook.problems import Told
from moebook.results import balance, cells, derived, parquet, schema
from moebook.results import table as results
from moebook.study.params import NotebookParams
from moebook.study.plan import Plan

TABLE = "results.parquet"


@dataclass(frozen=True)
class Enrich:
    """What a section makes of its Results beyond what all have, in its enrich.py: pure functions.

    summary: the row per point that claims are judged on. shown: the table that figures and
    commentary take. files: what `run.save()` writes besides, name -> bytes."""

    summary: Callable[["Results"], pd.DataFrame] = lambda res: res.summary
    shown: Callable[["Results"], pd.DataFrame] = lambda res: res.summary
    files: Callable[["Results"], dict[str, bytes]] = lambda res: {}

    @classmethod
    def of(cls, module: ModuleType) -> "Enrich":
        """Those of the functions that the module defines."""
        names = (field.name for field in fields(cls))
        return cls(**{name: getattr(module, name) for name in names if hasattr(module, name)})


@dataclass(frozen=True)
class Results:
    """The table (a row per repeat), its summary (a row per point), and where both come from.

    is_reference: these are results that ship with moebook, not the user's."""

    plan: Plan
    params: NotebookParams
    table: pd.DataFrame
    summary: pd.DataFrame
    metadata: dict
    origin: str
    is_reference: bool = False
    enrich: Enrich = field(default_factory=Enrich)

    @property
    def folder(self) -> Path:
        """Where results of one's own are written; those of the reference are only read."""
        return Store(self.params.output_root, self.plan).folder

    @property
    def source_folder(self) -> Path:
        """Where these results lie."""
        return Store(paths.reference(), self.plan).folder if self.is_reference else self.folder

    @property
    def roots(self) -> list[Path]:
        """Outputs folders that belong with these results: the reference stands alone, one's own
        rest on it."""
        return (
            [paths.reference()]
            if self.is_reference
            else [paths.output_root(self.params.output_root), paths.reference()]
        )

    @property
    def footer(self) -> str:
        """What a table says of the reference's numbers; empty for one's own."""
        return self.footer_of(self.table)

    def footer_of(self, rows: pd.DataFrame) -> str:
        """The same of a figure's rows: the devices among them, else this profile's."""
        if not self.is_reference:
            return ""
        named = self.table[["device", "engine_version"]].dropna().drop_duplicates()
        if "device" in rows and rows["device"].notna().any():
            named = self.shown[named.columns].dropna().drop_duplicates()
            named = named[named["device"].isin(rows["device"])]
        return "reference results of moebook: " + "; ".join(
            map(", ".join, named.itertuples(index=False))
        )

    @cached_property
    def shown(self) -> pd.DataFrame:
        """What figures and commentary take: the summary, or what the section makes of it."""
        return self.enrich.shown(self)

    def counts(self) -> dict[str, int]:
        """Points by status; what was composed of others is no point."""
        return (
            self.summary.loc[self.summary["method"] != cells.COMPOSED, "status"]
            .value_counts()
            .to_dict()
        )


class NoResults(Told, RuntimeError):
    """Nothing was measured for this profile, here or in the reference."""


def load(params: NotebookParams, plan: Plan, enrich: Enrich) -> Results:
    """One's own results where there are any, else the reference's. NoResults where there are
    neither."""
    with _uncollected():
        own = own_results(params, plan, enrich)
        return own if own is not None else reference_results(params, plan, enrich)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Records have no cycles: searching them for some, as they become more, took a tenth of the
    time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def own_results(params: NotebookParams, plan: Plan, enrich: Enrich) -> Results | None:
    """What was measured below the parameters' outputs folder; None where nothing was."""
    store = Store(params.output_root, plan)
    device = devices.detect(plan.device)
    found = store.found(device.name if device is not None else None)
    if not found.records:
        there = (store.folder / TABLE).exists()
        return _from_table(params, plan, store, enrich) if there else None
    source = next(iter(found.records.values()))["provenance"]
    origin = f"measured on {source['device']} with {source['engine_version']}"
    if device is None:
        origin += f"; drawn on a machine without that device ({devices.detect().name})"
    if found.older:
        origin += (
            f". Left out, as the newest engine's are used: {', '.join(found.older)} (`moebook "
            "results --list` shows all)"
        )
    return _from_points(params, plan, store, found, origin, enrich)


def reference_results(params: NotebookParams, plan: Plan, enrich: Enrich) -> Results:
    """The results that ship with moebook. NoResults where none of the plan's points is among
    them."""
    store = Store(paths.reference(), plan)
    found = store.found()
    if not found.records and not (store.folder / TABLE).exists():
        raise NoResults(
            "nothing of this plan was measured here, and no reference results ship for "
            f"{plan.notebook} of profile {plan.profile!r}, which is for device {plan.device!r} "
            f"(this machine: {devices.here()}). Measure it on such a device, or choose another "
            "profile"
        )
    if found.records:
        source = next(iter(found.records.values()))["provenance"]
        origin = (
            f"reference results that ship with moebook, measured on {source['device']} with "
            f"{source['engine_version']}; nothing of this plan was measured here"
        )
        return _from_points(params, plan, store, found, origin, enrich, is_reference=True)
    return _from_table(params, plan, store, enrich, is_reference=True)


def _from_points(
    params: NotebookParams,
    plan: Plan,
    store: Store,
    found: Found,
    origin: str,
    enrich: Enrich,
    is_reference: bool = False,
) -> Results:
    table = results.assemble(plan, _with_balance(store, found.records), found.further)
    source = next(iter(found.records.values()))["provenance"]
    ceilings = store.ceilings(source["device"])
    meta = results.metadata(plan, params.model_dump(mode="json"), ceilings)
    table = with_metrics(table, plan, ceilings)
    return enriched(Results(plan, params, table, table, meta, origin, is_reference, enrich=enrich))


def _with_balance(store: Store, records: dict[str, dict]) -> dict[str, dict]:
    """Records whose expert choices were counted, with the statistics of their balance."""
    from moebook.engine.counts import read  # numpy only: no engine is imported

    found = {}
    for key, record in records.items():
        file = store.counts_file(key)
        if file.exists():
            record = {
                **record,
                "facts": {**record.get("facts", {}), **balance.describe(read(file).counts)},
            }
        found[key] = record
    return found


def _from_table(
    params: NotebookParams, plan: Plan, store: Store, enrich: Enrich, is_reference: bool = False
) -> Results:
    """From the whole table, where the files of its points are not at hand."""
    path = store.folder / TABLE
    table, meta = parquet.read(path)
    known = set(table["key"])
    matching = sum(p.key in known for p in plan.points)
    if not matching:
        raise NoResults(
            f"{path} was measured with other parameters: none of this plan's {len(plan.points)} "
            f"points are in it; use the parameters in params/{plan.profile}/{plan.notebook}.yaml"
        )
    table = table[table["key"].isin({p.key for p in plan.points})]
    source = table.loc[table["device"].notna(), ["device", "engine_version"]].drop_duplicates()
    where = "; ".join(f"{d} with {v}" for d, v in source.itertuples(index=False))
    whose = "reference results that ship with moebook" if is_reference else "results"
    origin = (
        f"{whose}, measured on {where}, from {TABLE}: {matching} of {len(plan.points)} points of "
        "this plan are there"
    )
    meta = {"ceilings": None, **meta}
    return enriched(Results(plan, params, table, table, meta, origin, is_reference, enrich=enrich))


def with_metrics(table: pd.DataFrame, plan: Plan, ceilings: dict | None) -> pd.DataFrame:
    """The table with its computed columns: metrics, and bounds where peaks were measured."""
    table = derived.add_metrics(table)
    if ceilings is not None:
        table = add_floor(table, Ceilings(**ceilings), architecture_of(plan))
    return schema.as_table(table)


def architecture_of(plan: Plan) -> ArchitectureOf:
    """What the rows of a plan's table were run with, by their key."""
    architectures = {p.key: p.architecture for p in plan.points}
    return lambda row: architectures[row["key"]]


def enriched(res: Results) -> Results:
    """With its summary: predictions, what the section makes of it, and which rows decide claims."""
    summary = results.summarize(res.table)
    ceilings = Ceilings(**res.metadata["ceilings"]) if res.metadata["ceilings"] else None
    if (summary["method"] == "layer").any():
        summary = layers.add_layers(summary, ceilings)
    found = replace(
        res, summary=add_predictions(summary, architecture_of(res.plan), res.plan.device)
    )
    return replace(found, summary=cells.with_decisions(res.enrich.summary(found)).copy())


def unmeasured(params: NotebookParams, plan: Plan, origin: str, enrich: Enrich) -> Results:
    """Results of a plan of which nothing is measured or read."""
    table = with_metrics(results.assemble(plan, {}), plan, None)
    summary = cells.with_decisions(results.summarize(table))
    return Results(plan, params, table, summary, {"ceilings": None}, origin, enrich=enrich)
