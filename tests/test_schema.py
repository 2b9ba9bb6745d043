"""One schema of all result tables: shipped and written ones, read at once, and its dictionary."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from moebook import sections
from moebook.results import derived, parquet, schema
from moebook.results import table as results
from moebook.study.params import load
from moebook.study.plan import describe

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "outputs/reference").glob("*/*/results.parquet"))
LIST = [str(file) for file in SHIPPED]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    section = sections.find("01")
    plan = section.plan(load(section.params, ROOT / "params/cpu/01_hyperparameter_scaling.yaml"))
    return results.assemble(plan, {})


def rows() -> int:
    return sum(pq.read_metadata(file).num_rows for file in SHIPPED)


@pytest.mark.parametrize(
    "place", ["h200/06_fused_moe", "h100/07_load_balancing", "2xh100/05_parallelism"]
)
def test_a_table_made_of_the_shipped_points_is_the_shipped_table(place):
    from moebook.results.loading import reference_results
    from moebook.sections import parameters_of

    section = sections.find(place.split("/")[1])
    made = reference_results(
        *parameters_of(section, ROOT / f"params/{place}.yaml"), section.enrich
    ).table
    pd.testing.assert_frame_equal(
        made, parquet.read(ROOT / f"outputs/reference/{place}/results.parquet")[0]
    )


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: "/".join(file.parts[-3:-1]))
def test_every_shipped_table_has_exactly_the_schema(file):
    stored = pq.read_schema(file)
    assert stored.remove_metadata() == schema.arrow(schema.table())
    assert json.loads(stored.metadata[b"moebook"])["schema_version"] == schema.VERSION


def test_what_is_kept_of_other_devices_is_typed_too():
    for file in (ROOT / "outputs/reference").glob("*/*/beside.parquet"):
        stored = pq.read_schema(file)
        assert stored.remove_metadata() == schema.arrow(stored.names)


def test_pyarrow_reads_all_shipped_tables_as_one():
    found = pyarrow.dataset.dataset(LIST).to_table()
    assert found.num_rows == rows() > 3000 and tuple(found.column_names) == schema.table()
    assert {"NVIDIA H200", "NVIDIA H100 80GB HBM3"} <= set(found["device"].to_pylist())


def test_pandas_reads_them_as_one():
    found = pd.read_parquet(LIST)
    assert len(found) == rows() and found["peak_memory_bytes"].dtype == "Int64"


def test_polars_reads_them_as_one():
    polars = pytest.importorskip("polars")
    assert polars.scan_parquet(LIST).collect().shape == (rows(), len(schema.table()))


def test_duckdb_reads_them_as_one():
    duckdb = pytest.importorskip("duckdb")
    assert (
        duckdb.read_parquet(LIST).aggregate("count(floor_reason), count(*)").fetchone()[1] == rows()
    )


def test_a_table_is_the_same_after_the_file(table, tmp_path):
    table = derived.add_metrics(table)
    parquet.write(table, tmp_path / "r.parquet", {"profile": "cpu"})
    back, told = parquet.read(tmp_path / "r.parquet")
    pd.testing.assert_frame_equal(back, schema.as_table(table))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "r.parquet"), back)
    assert told["profile"] == "cpu" and told["schema_version"] == schema.VERSION
    parquet.write(back, tmp_path / "again.parquet", told)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "r.parquet").read_bytes()


def test_empty_columns_have_their_type(table, tmp_path):
    parquet.write(table, tmp_path / "r.parquet", {})
    stored = pq.read_table(tmp_path / "r.parquet")
    empty = [name for name in stored.column_names if stored[name].null_count == len(stored)]
    assert {"device_uuid", "device_cores", "output_digests", "floor_reason", "ttft_s"} <= set(empty)
    assert not [name for name in empty if str(stored.schema.field(name).type) == "null"]


def test_a_table_of_the_first_schema_is_read_in_todays(table, tmp_path):
    old = table.drop(columns=["device_uuid", "device_cores"])
    (tmp_path / "r.parquet").write_bytes(parquet.frame_bytes(old, {"ceilings": None}))
    assert "device_uuid" not in pq.read_schema(tmp_path / "r.parquet").names
    pd.testing.assert_frame_equal(parquet.read(tmp_path / "r.parquet")[0], table)


def test_a_newer_schema_is_told_clearly(table, tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "VERSION", 99)
    parquet.write(table, tmp_path / "r.parquet", {})
    monkeypatch.undo()
    with pytest.raises(
        ValueError,
        match=rf"r\.parquet has schema 99, .* reads up to schema {schema.VERSION}: update",
    ):
        parquet.read(tmp_path / "r.parquet")


def test_columns_that_nobody_described_are_refused(table, tmp_path):
    with pytest.raises(ValueError, match="no column speed in result tables"):
        parquet.write(table.assign(speed=1.0), tmp_path / "r.parquet", {})
    with pytest.raises(ValueError, match=r"no column speed in moebook/results/columns\.yaml"):
        (tmp_path / "r.parquet").write_bytes(parquet.frame_bytes(table.assign(speed=1.0), {}))
    assert not list(tmp_path.iterdir())


def test_a_column_that_always_has_a_value_takes_no_null(table):
    with pytest.raises((ValueError, TypeError)):
        schema.as_table(table.drop(columns="num_layers"))


def test_an_unknown_group_is_told():
    with pytest.raises(ValueError, match="no group engines; there are identity, repeat"):
        schema.names("engines")


def test_the_dictionary_is_the_schemas():
    assert (ROOT / "docs/data_dictionary.md").read_text(encoding="utf-8") == schema.dictionary(), (
        "write it again: python -m moebook.results.schema > docs/data_dictionary.md"
    )


def test_every_column_is_described():
    for column in schema.columns().values():
        told = (column.meaning, column.unit, column.source, column.missing)
        assert all(isinstance(word, str) and word for word in told), column
        assert column.type in schema.ARROW and "|" not in "".join(told), column
        assert column.unit == "none" or column.type != "flag", column


@pytest.mark.parametrize(
    ("end", "unit"),
    [
        ("_s", "s"),
        ("_bytes", "bytes"),
        ("_tok_s", "tokens/s"),
        ("_pct", "%"),
        ("_mhz", "MHz"),
        ("_w", "W"),
        ("_tokens", "tokens"),
        ("_bytes_per_s", "bytes/s"),
        ("_flops_per_s", "FLOPs/s"),
    ],
)
def test_units_are_those_of_the_names(end, unit):
    ends = {"_s": ("_tok_s", "_per_s")}
    named = [
        c
        for c in schema.columns().values()
        if c.name.endswith(end) and not c.name.endswith(ends.get(end, "-"))
    ]
    assert named and {c.unit for c in named} == {unit}


def test_every_column_of_a_summary_is_described():
    from moebook.workbook import Run

    for profile, stem in (("h200", "01"), ("2xh100", "05"), ("h200", "06"), ("h200", "08")):
        section = sections.find(stem)
        params = load(section.params, ROOT / f"params/{profile}/{section.stem}.yaml")
        shown = Run(section, params).read().shown
        assert not [name for name in shown if name not in schema.columns()], (profile, stem)


def test_a_cell_is_known_by_all_that_is_planned_but_names_and_effort():
    """Every column that planning fills, but what points are called and how they are measured."""
    section = sections.find("01")
    plan = section.plan(load(section.params, ROOT / "params/cpu/01_hyperparameter_scaling.yaml"))
    called = {"key", "notebook", "sweeps", "series", "method", "number_format", "repeats_planned"}
    assert set(schema.identity()) == set(describe(plan.points[0])) - called
    assert {schema.columns()[name].identity for name in schema.identity()} == {*schema.IDENTITIES}


def test_points_of_other_engine_room_are_other_cells_that_may_be_compared():
    from moebook.results.cells import Cells, series_keys

    section = sections.find("01")
    plan = section.plan(load(section.params, ROOT / "params/cpu/01_hyperparameter_scaling.yaml"))
    point = describe(plan.points[0])
    number = {"sweeps": "s", "status": "ok", "throughput_tok_s": 1.0}
    rows = [{**point, **number}, {**point, **number, "kv_cache_gib": 7, "key": "other"}]
    cells = Cells.of(pd.DataFrame(rows), "s")
    assert len(cells.ok) == 2 and series_keys(cells.ok, ()).nunique() == 1


def damaged(shipped: pa.Table) -> dict[str, pa.Table]:
    """By what is wrong with it."""
    known = shipped.schema.metadata
    told = json.loads(known[b"moebook"])
    texts = {
        "no JSON": "{",
        "a list": "[]",
        "null": "null",
        "without a version": "{}",
        "a version in words": json.dumps({**told, "schema_version": "4"}),
        "other ceilings": json.dumps({**told, "ceilings": {"x": 1}}),
        "negative ceilings": json.dumps(
            {**told, "ceilings": {**told["ceilings"], "copy_bytes_per_s": -1.0}}
        ),
    }
    found = {
        why: shipped.replace_schema_metadata({**known, b"moebook": text.encode()})
        for why, text in texts.items()
    }
    batch, rows = shipped.schema.get_field_index("batch"), len(shipped)
    return found | {
        "no metadata": shipped.replace_schema_metadata(None),
        "without keys": shipped.drop(["key"]),
        "a column of nulls": shipped.set_column(batch, "batch", pa.nulls(rows, pa.int64())),
        "words for numbers": shipped.set_column(batch, "batch", pa.array(["x"] * rows)),
    }


def test_a_damaged_table_is_told_with_its_name(tmp_path):
    shipped = pq.read_table(ROOT / "outputs/reference/2xh100/05_parallelism/results.parquet")
    file = tmp_path / "results.parquet"
    for why, table in damaged(shipped).items():
        pq.write_table(table, file)
        with pytest.raises(ValueError, match="results.parquet is no results table of moebook"):
            print(why, parquet.read(file)[1])
    file.unlink()
    file.mkdir()
    with pytest.raises(ValueError, match="is no results table of moebook .is no file"):
        parquet.read(file)
