"""What every figure owes its reader: its width, a unit on each axis, nothing outside the page, and
no words on others."""

from itertools import combinations

from moebook.plot import style


def assert_readable(fig, rows, width: str, unitless: bool = False) -> None:
    """unitless: the panels' own axes need no unit, as those of names."""
    assert fig.get_figwidth() == style.WIDTHS[width] and len(rows)
    shared = [text for text in (fig._supxlabel, fig._supylabel) if text is not None]
    labels = [t for ax in fig.axes for t in (ax.xaxis.label, ax.yaxis.label) if t.get_text()]
    with_unit = [text.get_text() for text in shared + labels * (not unitless)]
    assert with_unit and all("(" in text and text.endswith(")") for text in with_unit)
    box = fig.get_tightbbox()
    assert box.x0 > -0.02 and box.y0 > -0.02
    assert box.x1 < fig.get_figwidth() + 0.02 and box.y1 < fig.get_figheight() + 0.02
    legends = [legend.get_window_extent() for legend in fig.legends]
    assert all(b.x0 >= 0 and b.x1 <= fig.bbox.x1 and b.y1 <= fig.bbox.y1 + 1 for b in legends)
    sizes = {text.get_fontsize() for legend in fig.legends for text in legend.get_texts()}
    assert sizes <= {8.0}
    titles = [ax.title for ax in fig.axes if ax.get_title()]
    _assert_apart([*legends, *(t.get_window_extent() for t in shared + labels + titles)], slack=1)
    for ax in fig.axes:
        for axis, ends in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            _assert_apart(_ticks(axis, *sorted(ends)))


def _ticks(axis, low: float, high: float) -> list:
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    shown = [t.label1 for t in ticks if t.label1.get_visible() and t.label1.get_text()]
    return [label.get_window_extent() for label in shown]


def _assert_apart(boxes: list, slack: float = 0) -> None:
    """No two overlap by more than `slack` pixels both ways."""
    for a, b in combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= slack or down <= slack, (a, b)
