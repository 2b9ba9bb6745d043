"""Adds the points of a campaign to the shipped ones: a point that ships already becomes a further
record of it.

    python benchmarks/add_records.py outputs/h200/02_quantization [TARGET]

TARGET is by default the folder of the same name in outputs/reference. Prints how many points are
new and how many are further records; a record that is there already is left alone. Then
`python benchmarks/ship_tables.py` makes the tables again, and `python benchmarks/between_starts.py`
the deviations between engine starts."""

import shutil
import sys
from collections import Counter
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "outputs/reference"


def add(source: Path, target: Path) -> Counter:
    """Copies the records of one outputs folder to another; counts of `new`, `further`, `there`."""
    counts: Counter = Counter()
    files = [*source.glob("points/*.json"), *source.glob("records/*/*.json")]
    for file in sorted(files):
        name = file.stem if file.parent.name == "points" else file.parent.name
        first, more = target / "points" / f"{name}.json", target / "records" / name
        held = [path for path in (first, *more.glob("*.json")) if path.exists()]
        if any(path.read_bytes() == file.read_bytes() for path in held):
            counts["there"] += 1
            continue
        place = first if not held else more / f"{len(held) + 1}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
        counts["further" if held else "new"] += 1
    return counts


def main() -> None:
    source = Path(sys.argv[1])
    own = REFERENCE / source.parent.name / source.name
    print(dict(add(source, Path(sys.argv[2]) if len(sys.argv) > 2 else own)))


if __name__ == "__main__":
    main()
