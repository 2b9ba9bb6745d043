"""Results of a plan as a notebook uses them: from point files where there are any, from the committed table otherwise."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from moebook import devices, results
from moebook.analysis import balance, layers, metrics, parallelism, predict
from moebook.params import NotebookParams
from moebook.plan import Plan
from moebook.store import Store


@dataclass(frozen=True)
class Results:
    """The table (a row per repeat), its summary (a row per point), and where both come from."""

    plan: Plan
    params: NotebookParams
    table: pd.DataFrame
    summary: pd.DataFrame
    metadata: dict
    origin: str
    calibration: object | None = None
    drawn: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return Store(self.params.output_root, self.plan).folder

    @cached_property
    def shown(self) -> pd.DataFrame:
        """What figures and readings take: the summary, and where the section says so other devices' beside it."""
        from moebook import beside

        return beside.joined(self) if hasattr(self.params, "beside") else self.summary

    def counts(self) -> dict[str, int]:
        """Points by status; what was composed of others is no point."""
        return self.summary.loc[self.summary["method"] != parallelism.COMPOSED, "status"].value_counts().to_dict()


class NoResults(RuntimeError):
    """Nothing was measured for this profile, and this machine cannot measure it."""


def load(params: NotebookParams, plan: Plan) -> Results:
    """The results that exist: of point files where there are any, of the committed table otherwise."""
    store = Store(params.output_root, plan)
    device = devices.detect()
    here = device.kind == plan.device
    records = store.records(device.name if here else None)
    path = store.folder / "results.parquet"
    if not records:
        return _committed(params, plan, path)
    table = results.assemble(plan, _with_balance(store, records))
    source = next(iter(records.values()))["provenance"]
    ceilings = store.ceilings(source["device"])
    table = _enrich(table, plan, ceilings)
    meta = results.metadata(plan, params.model_dump(mode="json"), ceilings)
    results.write(table, path, meta)
    origin = f"measured on {source['device']} with {source['engine_version']}"
    if not here:
        origin += f"; drawn on a machine without that device ({device.name})"
    return _results(params, plan, table, meta, origin)


def _with_balance(store: Store, records: dict[str, dict]) -> dict[str, dict]:
    """Records whose expert choices were counted, with the statistics of their balance."""
    from moebook.engine.counts import read  # numpy only: no engine is imported

    found = {}
    for key, record in records.items():
        file = store.counts_file(key)
        if file.exists():
            record = {**record, "facts": {**record.get("facts", {}), **balance.describe(read(file).counts)}}
        found[key] = record
    return found


def _committed(params: NotebookParams, plan: Plan, path: Path) -> Results:
    device = devices.detect()
    if not path.exists():
        raise NoResults(f"profile {plan.profile!r} is for device {plan.device!r}, this machine has {device.kind!r}, and "
                        f"there are no results in {path}: run it on such a device, or choose another profile")
    table, meta = results.read(path)
    known = set(table["key"])
    matching = sum(p.key in known for p in plan.points)
    if not matching:
        raise NoResults(f"{path} was measured with other parameters: none of this plan's {len(plan.points)} points are "
                        f"in it; use the parameters in params/{plan.profile}/{plan.notebook}.yaml")
    table = table[table["key"].isin({p.key for p in plan.points})]
    source = table.loc[table["device"].notna(), ["device", "engine_version"]].drop_duplicates()
    where = "; ".join(f"{d} with {v}" for d, v in source.itertuples(index=False))
    origin = (f"committed results, measured on {where}; this machine ({device.name}) has measured nothing of them. "
              f"{matching} of {len(plan.points)} points of this plan are there")
    return _results(params, plan, table, meta, origin)


def _enrich(table: pd.DataFrame, plan: Plan, ceilings: dict | None) -> pd.DataFrame:
    table = metrics.add_metrics(table)
    if ceilings is None:
        return table
    return predict.add_floor(table, predict.Ceilings(**ceilings), _architecture_of(plan))


def _architecture_of(plan: Plan):
    architectures = {p.key: p.architecture for p in plan.points}
    return lambda row: architectures[row["key"]]


def _results(params, plan: Plan, table: pd.DataFrame, meta: dict, origin: str) -> Results:
    found = _calibrated(params, plan, table, meta, origin)
    return replace(found, summary=parallelism.add_composed(found.summary, params.output_root))


def _calibrated(params, plan: Plan, table: pd.DataFrame, meta: dict, origin: str) -> Results:
    ceilings = predict.Ceilings(**meta["ceilings"]) if meta["ceilings"] else None
    summary = results.summarize(table)
    if (summary["method"] == "layer").any():
        summary = layers.add_layers(summary, ceilings)
    if ceilings is None:
        return Results(plan, params, table, summary, meta, origin)
    of = _architecture_of(plan)
    try:
        calibration = predict.fit(summary, ceilings, of)
    except ValueError as error:                     # too few points: there is no prediction, and this says why
        return Results(plan, params, table, summary, {**meta, "no_prediction": str(error)}, origin)
    return Results(plan, params, table, predict.predict(summary, calibration, of), meta, origin, calibration)


def prediction(res: Results) -> str:
    """How well the calibrated model does on engine shapes left out, or why there is none."""
    if res.calibration is None:
        return f"No prediction: {res.metadata.get('no_prediction', 'the device has no measured ceilings')}."
    of = _architecture_of(res.plan)
    try:
        score = predict.cross_validate(res.summary, res.calibration.ceilings, of)
    except ValueError as error:                     # one engine shape: none can be left out, and this says so
        score = f"A prediction without a score: {error}"
    return "; ".join([str(score), *res.calibration.notes])


def unmeasured(params: NotebookParams, plan: Plan, origin: str) -> Results:
    table = metrics.add_metrics(results.assemble(plan, {}))
    return Results(plan, params, table, results.summarize(table), {"ceilings": None}, origin)
