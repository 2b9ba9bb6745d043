"""Every shipped table again from its points, after the schema or a derived column has changed.

    python benchmarks/ship_tables.py

Metadata stay those of the file, parameters and peaks among them; points are read, never written."""

from pathlib import Path

from moebook import sections
from moebook.results import parquet
from moebook.results.loading import reference_results

ROOT = Path(__file__).parents[1]


def main() -> None:
    for path in sorted((ROOT / "outputs/reference").glob("*/*/results.parquet")):
        profile, stem = path.parts[-3:-1]
        section = sections.find(stem)
        given = sections.parameters_of(section, ROOT / f"params/{profile}/{stem}.yaml")
        made = reference_results(*given, section.enrich).table
        before, metadata = parquet.read(path)
        parquet.write(made, path, metadata)
        print(f"{profile}/{stem}: {len(made)} rows, {len(before)} before")


if __name__ == "__main__":
    main()
