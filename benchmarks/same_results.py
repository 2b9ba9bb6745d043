"""Whether results are still what they were: every verdict, figure's rows, table and point id.

    python benchmarks/same_results.py record DIR          # of the checkout it runs in
    python benchmarks/same_results.py compare BEFORE AFTER

`record` writes, from the reference results alone, for each profile: `claims.json` (all verdicts
with their parts), `<notebook>/<figure>.csv` (the rows of each figure), `<notebook>/table.csv` (a
row per point, as figures and claims take it) and `<notebook>/plan.csv` (key and status of each
planned point). `compare` names every file and every cell that differs and exits 1 where there is
one; numbers may differ in their last digits by RELATIVE, as a fit's do between processors.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

RELATIVE = 1e-6
MOST_TOLD = 8  # differing cells named per file


def record(folder: Path) -> None:
    """Write what today's code makes of the reference results of every profile."""
    from moebook import paths, sections, workbook
    from moebook.results import verdicts as claims
    from moebook.sections.overview.tables import all_verdicts
    from moebook.study.params import load

    empty = folder / "nothing_of_ones_own"
    for profile in paths.profiles():
        for stem in sections.STEMS:
            file = paths.params_file(profile, stem)
            if not file.exists():
                continue
            section = sections.find(stem)
            params = load(section.params, file).model_copy(update={"output_root": str(empty)})
            _record_notebook(folder / profile / stem, workbook, section, params, stem)
        if (paths.reference() / profile).exists():
            verdicts, _ = all_verdicts(profile, str(empty))
            claims.to_json(verdicts, folder / profile / "claims.json")
        print(profile, flush=True)


def _record_notebook(folder: Path, workbook, section, params, stem: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plan = section.plan(params)
    rows = [
        (p.key, p.status, p.reason, ",".join(p.sweeps), p.series, p.method) for p in plan.points
    ]
    names = ["key", "status", "reason", "sweeps", "series", "method"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "plan.csv", index=False)
    try:
        res = workbook.load(params, plan) if plan.points else workbook.empty_results(params, stem)
    except workbook.NoResults:
        return
    if plan.points:
        res.shown.to_csv(folder / "table.csv", index=False)
    for name in section.figures:
        try:
            with workbook.figure(res, name) as (_, rows):
                rows.to_csv(folder / f"{name}.csv", index=False)
        except ValueError as error:
            (folder / f"{name}.txt").write_text(str(error))


def compare(before: Path, after: Path) -> list[str]:
    """A line per difference between two folders of `record`."""
    files = [{p.relative_to(d) for p in d.rglob("*") if p.is_file()} for d in (before, after)]
    found = [f"only before: {name}" for name in sorted(files[0] - files[1])]
    found += [f"only after: {name}" for name in sorted(files[1] - files[0])]
    for name in sorted(files[0] & files[1]):
        how = _cells if name.suffix == ".csv" else _text
        found += [f"{name}: {line}" for line in how(before / name, after / name)]
    return found


def _text(before: Path, after: Path) -> list[str]:
    old, new = (file.read_text().splitlines() for file in (before, after))
    if old == new:
        return []
    changed = [(a, b) for a, b in zip(old, new, strict=False) if a != b]
    told = [f"{a.strip()!r} -> {b.strip()!r}" for a, b in changed[:MOST_TOLD]]
    return [f"{len(old)} -> {len(new)} lines, {len(changed)} differ", *told]


def _cells(before: Path, after: Path) -> list[str]:
    if before.read_bytes() == after.read_bytes():
        return []
    old, new = (pd.read_csv(f, dtype=str, keep_default_na=False) for f in (before, after))
    found = [f"column {c} is gone" for c in old if c not in new]
    found += [f"column {c} is new" for c in new if c not in old]
    if len(old) != len(new):
        return [*found, f"{len(old)} -> {len(new)} rows"]
    for column in (c for c in old if c in new):
        differ = old[column] != new[column]
        numbers = [pd.to_numeric(t[column], errors="coerce").to_numpy(float) for t in (old, new)]
        with np.errstate(invalid="ignore"):
            differ &= ~np.isclose(*numbers, rtol=RELATIVE, atol=0)
        told = [
            f"{column} row {i}: {old[column][i]!r} -> {new[column][i]!r}"
            for i in np.flatnonzero(differ)[:MOST_TOLD]
        ]
        found += told + [f"{column}: {differ.sum()} cells differ"] * bool(len(told))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("folders", nargs="+", type=Path)
    given = parser.parse_args()
    if given.what == "record":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        record(given.folders[0].resolve())
        return 0
    found = compare(*given.folders)
    print("\n".join(found) or "the same")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
