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
    from moebook import paths, sections
    from moebook.results.verdicts import to_json
    from moebook.sections.profile import all_verdicts
    from moebook.study.params import load
    from moebook.workbook import Run

    empty = str(folder / "nothing_of_ones_own")
    for profile in paths.profiles():
        for section in sections.of_profile(profile):
            params = load(section.params, paths.params_file(profile, section.stem))
            run = Run(section, params.model_copy(update={"output_root": empty}))
            _record_notebook(folder / profile / section.stem, run)
        if (paths.reference() / profile).exists():
            claims = to_json(all_verdicts(profile, empty)[0])
            (folder / profile / "claims.json").write_text(claims + "\n", encoding="utf-8")
        print(profile, flush=True)


def _record_notebook(folder: Path, run) -> None:
    from moebook.results.loading import NoResults

    folder.mkdir(parents=True, exist_ok=True)
    names = ["key", "status", "reason", "sweeps", "series", "method"]
    rows = [
        (p.key, p.status, p.reason, ",".join(p.sweeps), p.series, p.method) for p in run.plan.points
    ]
    pd.DataFrame(rows, columns=names).to_csv(folder / "plan.csv", index=False)
    try:
        run.read()
    except NoResults:
        return
    if run.plan.points:
        run.table.to_csv(folder / "table.csv", index=False)
    for name, figure in run.section.figures.items():
        try:
            with run.figure(figure) as (_, rows):
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
