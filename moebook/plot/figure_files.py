"""A figure as files: pdf, svg and png of the exact width, with the rows it draws as CSV.

Files of one figure are the same bytes each time: no dates, a fixed salt for SVG ids, embedded
TrueType fonts."""

import io
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from moebook.measure.files import write_atomic
from moebook.plot.style import house_style, width_in

FORMATS = ("pdf", "svg", "png")
METADATA = {
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
PNG_DPI = 200
SCREEN_DPI = 128  # of a figure on a page: a page's width is 896 pixels


def named(figure: str, width: str) -> str:
    """The stem of a figure's files: `fig07_ffn_scaling-column`. The name says the width, so that
    neither overwrites the other and a paper includes the one it means."""
    return f"{figure}-{width}"


def save(
    fig: Figure,
    rows: pd.DataFrame,
    folder: str | Path,
    stem: str,
    formats: Iterable[str] = FORMATS,
    width: str | None = None,
) -> list[Path]:
    """Write a figure into a folder, each whole or not at all; their paths, CSV
    last."""
    files = made(fig, rows, stem, formats, width)
    for name, data in files.items():
        write_atomic(Path(folder) / name, data)
    return [Path(folder) / name for name in files]


def made(
    fig: Figure,
    rows: pd.DataFrame,
    stem: str,
    formats: Iterable[str] = FORMATS,
    width: str | None = None,
) -> dict[str, bytes]:
    """`<stem>.<format>` for each format and the plotted rows as `<stem>.csv`, by name.

    `width` (column, page) checks the figure's width. ValueError for an unknown format or a figure
    of another width."""
    formats = tuple(formats)
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise ValueError(f"unknown formats {unknown}; allowed: {', '.join(FORMATS)}")
    if width is not None and abs(fig.get_figwidth() - width_in(width)) > 1e-6:
        raise ValueError(
            f"figure {stem} is {fig.get_figwidth():g} in wide, width {width!r} is "
            f"{width_in(width):g} in; draw it with width={width!r}"
        )
    return {
        **{f"{stem}.{name}": render(fig, name) for name in formats},
        f"{stem}.csv": rows.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode(),
    }


def render(fig: Figure, name: str = "png", dpi: int = PNG_DPI) -> bytes:
    """The figure as the bytes of a pdf, svg or png file; dpi in pixels per inch, of a png alone."""
    buffer = io.BytesIO()
    own = {"pil_kwargs": {"compress_level": 0}} if name == "png" else {}  # it is packed below
    with house_style():
        fig.savefig(buffer, format=name, metadata=METADATA[name], dpi=dpi, **own)
    if name == "png":
        return _few_colours(buffer, dpi)
    return _short(buffer.getvalue()) if name == "svg" else buffer.getvalue()


def _short(svg: bytes) -> bytes:
    """Coordinates to a hundredth of a point, no indentation, and no style of a tick or marker that
    its own path states already; text between tags stays."""
    short = re.sub(rb"<[^!][^>]*>", lambda tag: re.sub(rb"(\d\.\d\d)\d+", rb"\1", tag[0]), svg)
    short = re.sub(rb">\s+<", rb">\n<", short)
    styles = dict(re.findall(rb'<path id="([^"]+)" d="[^"]*" style="([^"]*)"/>', short))
    return re.sub(
        rb'(<use xlink:href="#([^"]+)"[^>]*?) style="([^"]*)"',
        lambda use: use[1] if styles.get(use[2]) == use[3] else use[0],
        short,
    )


def _few_colours(png: io.BytesIO, dpi: int) -> bytes:
    """The picture in a palette of 256 colours: a third of the bytes, in the file and in every
    notebook that shows it."""
    small = io.BytesIO()
    picture = Image.open(png).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(small, "PNG", optimize=True, dpi=(dpi, dpi))
    return small.getvalue()
