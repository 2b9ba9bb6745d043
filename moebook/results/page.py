"""Pieces of a page to read: the box on top, folds, chips of verdicts, tables.

The HTML has inline styles alone, so it looks the same in JupyterLab (which drops style sheets of
notebooks that it does not trust), in exported HTML and in `moebook report`; colours of text and
page are the reader's, light or dark. Each piece is plain text, too, for logs and terminals."""

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import pandas as pd

# verdict -> (colour behind white type, mark that tells it in grey)
VERDICTS = {
    "supported": ("#2e7d32", "✓"),
    "contradicted": ("#b71c1c", "✗"),
    "mixed": ("#a15c00", "◐"),
    "undecided": ("#4a4a8a", "?"),
    "untested": ("#616161", "–"),
}
MOST_BULLETS = 3  # of a commentary, in sight
# a table or a list of a commentary: lines that begin alike, without the empty ones around them
BLOCKS = re.compile(r"\s*^((?:[|-] .*(?:\n|\Z))+)\s*", re.MULTILINE)
SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9*`])|(?<=:)\Z")
MINUS = re.compile(r"(?<![\w`-])-(?=\d)")
LINE = "1px solid rgba(128,128,128,.45)"
BOX = (
    f"border:{LINE};border-left:5px solid #0072b2;border-radius:6px;padding:10px 16px;margin:6px 0"
)
TINT = "background-color:rgba(213,94,0,.16)"  # a row without a number


@dataclass(frozen=True)
class Html:
    """What a notebook shows as HTML and a terminal as text."""

    html: str
    text: str = ""

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Number:
    """One number of the box: `3.4×`, and what it is of, with its conditions."""

    value: str
    label: str


def inline(markdown: object) -> str:
    """HTML of a line of Markdown: bold, code, a minus before a number, and nothing else."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(str(markdown), quote=False))
    text = MINUS.sub("−", text)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)


def chip(verdict: str, text: str = "") -> str:
    """A verdict as a coloured word with its mark."""
    colour, mark = VERDICTS[verdict.partition(" ")[0]]
    look = f"background-color:{colour};color:#fff;border-radius:9px;padding:1px 8px"
    return (
        f'<span style="{look};font-size:90%;white-space:nowrap">'
        f"{mark} {escape(text or verdict)}</span>"
    )


def fold(title: str, body: str, height: str = "36em") -> str:
    """A line (Markdown) that opens to more; `body` is HTML. What is wider, or taller than
    `height`, scrolls inside."""
    return (
        f'<details style="margin:4px 0"><summary style="cursor:pointer">{inline(title)}</summary>'
        f'<div style="overflow:auto;max-height:{height};margin:4px 0">{body}</div></details>'
    )


def folded(title: str, frame: pd.DataFrame) -> Html:
    """A table under a line that opens to it."""
    return Html(fold(title, table(frame)), f"{title}\n{frame.to_string(index=False)}")


def said(text: str) -> tuple[list[str], str]:
    """A commentary (Markdown: sentences, tables, lists) for a page: (at most three bullets, HTML of
    the rest, folded). A sentence that ends in a colon heads the table that follows it."""
    bullets, folds = [], ""
    for i, block in enumerate(BLOCKS.split(text)):
        if i % 2:
            announced = bullets and bullets[-1].endswith(":")
            folds += fold(bullets.pop()[:-1] if announced else "In numbers", _block(block))
        else:
            bullets += filter(None, SENTENCES.split(block.strip()))
    more = "".join(f"<p>{inline(one)}</p>" for one in bullets[MOST_BULLETS:])
    return bullets[:MOST_BULLETS], folds + (fold("More", more) if more else "")


def bullets(text: str) -> str:
    """A commentary as HTML: its bullets, and the rest folded."""
    shown, rest = said(text)
    items = "".join(f"<li>{inline(one)}</li>" for one in shown)
    return f'<ul style="margin:2px 0">{items}</ul>' * bool(items) + rest


def _block(text: str) -> str:
    """A Markdown table or list as HTML."""
    lines = text.strip().splitlines()
    if lines[0].startswith("-"):
        return f"<ul>{''.join(f'<li>{inline(line[2:])}</li>' for line in lines)}</ul>"
    head, _, *rows = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in lines)
    return table(pd.DataFrame(rows, columns=head))


def picture(png: bytes, name: str) -> str:
    """A picture within the page."""
    return f'<img alt="{name}" src="data:image/png;base64,{b64encode(png).decode()}"/>'


def box(finding: str, numbers: Iterable[Number], chips: Iterable[str], below: str) -> str:
    """The top of a page: the finding in a sentence (Markdown), numbers, chips, one line below."""
    cells = "".join(
        f'<div style="flex:1 1 9em"><div style="font-size:165%;font-weight:600">'
        f'{inline(one.value)}</div><div style="font-size:90%;opacity:.8">{inline(one.label)}</div>'
        "</div>"
        for one in numbers
    )
    row = "display:flex;flex-wrap:wrap;gap:8px 24px;margin:10px 0"
    parts = [
        f'<div style="font-size:115%">{inline(_sentence(finding))}</div>',
        f'<div style="{row}">{cells}</div>' * bool(cells),
        f'<div style="{row};gap:5px">{"".join(chips)}</div>',
        f'<div style="font-size:90%;opacity:.8">{escape(below)}</div>',
    ]
    return f'<div style="{BOX}">{"".join(parts)}</div>'


def box_text(finding: str, numbers: Iterable[Number], below: str) -> str:
    """The same for a terminal."""
    told = [f"  {one.value:>10}  {one.label}" for one in numbers]
    return "\n".join([_sentence(finding).replace("**", ""), *told, below])


def _sentence(finding: str) -> str:
    return finding.removeprefix("**Finding.** ")


def table(frame: pd.DataFrame, tinted: Iterable[bool] = (), caption: str = "") -> str:
    """A frame of texts as a compact HTML table, rows that are `tinted` marked, the caption below;
    text stands left, numbers right."""
    frame, tints = frame.astype(str), list(tinted) or [False] * len(frame)
    left = [not frame[c].str.match(r"^[-+–]?[\d,.]*( ± [\d.,]+)?$").all() for c in frame]
    sides = ["text-align:left" if one else "text-align:right" for one in left]
    head = _cells("th", frame.columns, sides)
    rows = "".join(
        f'<tr style="{TINT}">{_cells("td", row, sides)}</tr>'
        if tint
        else f"<tr>{_cells('td', row, sides)}</tr>"
        for row, tint in zip(frame.itertuples(index=False), tints, strict=True)
    )
    end = f'<div style="font-size:90%;opacity:.8">{escape(caption)}</div>' * bool(caption)
    return f'<table style="font-size:90%"><tr>{head}</tr>{rows}</table>{end}'


def _cells(tag: str, values: Iterable, sides: list[str]) -> str:
    pairs = zip(values, sides, strict=True)
    return "".join(f'<{tag} style="{side}">{inline(v)}</{tag}>' for v, side in pairs)
