"""What `run.save()` writes: figures, the table of one's own results, where all came from, and the
completion record.

Nothing else writes results; a run is a `moebook.workbook.Run`."""

import json
import sys
from datetime import UTC, datetime

from moebook import devices, engine, paths
from moebook.measure import records
from moebook.measure.files import Unwritable, write_atomic
from moebook.results import parquet, schema
from moebook.results.loading import TABLE


def save(run) -> str:
    """Write all; a line on what was written, or on what stood in the way."""
    res = run.results
    try:
        for path, data in _files(run):
            write_atomic(path, data)
    except Unwritable as error:
        return f"nothing was written: {error}"
    folder = paths.shown(res.folder / "figures")
    counts = ", ".join(f"{n} {status}" for status, n in res.counts().items())
    points = f"points: {counts}; " if counts else ""
    return f"{points}{len(run.drawn)} figures written to {folder}"


def _files(run) -> list[tuple]:
    """(path, content), the completion record last."""
    res = run.results
    drawn = (item for files in run.drawn.values() for item in files.items())
    files = [(res.folder / "figures" / name, data) for name, data in drawn]
    if not res.is_reference and res.metadata.get("notebook"):
        files.append(
            (res.folder / TABLE, parquet.frame_bytes(schema.as_table(res.table), res.metadata))
        )
        own = run.section.enrich.files(res)
        files += [(res.folder / name, data) for name, data in own.items()]
    done = records.checked(records.DONE, _done(run))
    for name, data in (("provenance.json", _provenance(run)), ("DONE.json", done)):
        files.append((res.folder / name, json.dumps(data, indent=1).encode()))
    return files


def _provenance(run) -> dict:
    here = devices.detect(run.plan.device) or devices.detect()
    return {
        "origin": run.results.origin,
        "here": engine.provenance(here),
        "python": sys.version.split()[0],
        "parameters": run.params.model_dump(mode="json"),
    }


def _done(run) -> dict:
    left = unfinished(run)
    return {
        "notebook": run.plan.notebook,
        "profile": run.plan.profile,
        "status": "incomplete" if left else "ok",
        "points": run.results.counts(),
        "unfinished": left,
        "reference": run.results.is_reference,
        "figures": sorted(run.drawn),
        "finished_at": datetime.now(UTC).isoformat(),
    }


def unfinished(run) -> dict[str, int]:
    """Points of one's own plan that were to be run and have no number, by status; what the plan
    rules out, or the engine lacks, is not among them."""
    res = run.results
    if res.is_reference or run.params.dry_run:
        return {}
    ready = {p.key for p in run.plan.points if p.status == "ready"}
    lacking = ~res.summary["status"].isin(("ok", "infeasible"))
    rows = res.summary[res.summary["key"].isin(ready) & lacking]
    return rows["status"].value_counts().to_dict()
