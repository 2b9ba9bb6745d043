"""Tables as parquet files: the columns of the schema, typed, and what a file says of itself."""

import io
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from moebook import __version__
from moebook.measure import files, records
from moebook.results import schema

NO_TABLE = "{} is no results table of moebook ({}); remove it and run again"


def write(table: pd.DataFrame, path: Path, metadata: dict) -> None:
    """A results.parquet: exactly the columns of the schema, `metadata` (JSON) under the key
    `moebook`; the file appears whole or not at all."""
    files.write_atomic(path, frame_bytes(schema.as_table(table), metadata))


def frame_bytes(frame: pd.DataFrame, metadata: dict) -> bytes:
    """Any columns of the schema as parquet. Without Arrow's own copy of the schema, which for
    tables of many columns and few rows would be the larger part of the file; pandas' is kept, so
    that frames read as written."""
    arrow = pa.Table.from_pandas(schema.typed(frame), schema.arrow(frame), preserve_index=False)
    told = {"moebook_version": __version__, **metadata, "schema_version": schema.VERSION}
    extra = json.dumps(told, sort_keys=True).encode()
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer, arrow.schema, compression="zstd", store_schema=False, write_statistics=False
    ) as writer:
        writer.write_table(arrow)
        writer.add_key_value_metadata({**(arrow.schema.metadata or {}), b"moebook": extra})
    return buffer.getvalue()


def read(path: Path) -> tuple[pd.DataFrame, dict]:
    """Table and metadata of a results.parquet, in today's schema. ValueError where the file is
    none, or is newer."""
    frame, metadata = read_frame(path)
    never_null = [name for name in schema.table() if schema.columns()[name].missing == schema.NEVER]
    for name in never_null:
        if name not in frame or frame[name].isna().any():
            raise ValueError(NO_TABLE.format(path, f"a row without {name}"))
    return schema.as_table(frame), metadata


def read_frame(path: Path) -> tuple[pd.DataFrame, dict]:
    """Any file of `frame_bytes`, its columns typed."""
    try:
        arrow = pq.read_table(pa.BufferReader(files.read(path)))
        metadata = records.of_table((arrow.schema.metadata or {}).get(b"moebook", b"{}"))
        version = metadata["schema_version"]
        found = schema.typed(arrow.to_pandas()) if version <= schema.VERSION else None
    except (ValueError, TypeError, OSError, pa.ArrowException) as error:
        raise ValueError(NO_TABLE.format(path, " ".join(str(error).split()))) from None
    if found is None:
        raise ValueError(
            f"{path} has schema {version}, written by moebook {metadata['moebook_version']}; this "
            f"is moebook {__version__}, which reads up to schema {schema.VERSION}: update it"
        )
    return found, metadata
