"""Names beside points, each where it hides least of what is drawn."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.text import Annotation

PLACES = {  # offset in points -> the side of the name that stands there
    (5, 3): ("left", "bottom"),
    (5, -3): ("left", "top"),
    (-5, 3): ("right", "bottom"),
    (-5, -3): ("right", "top"),
    (0, 5): ("center", "bottom"),
    (0, -5): ("center", "top"),
    (7, 0): ("left", "center"),
    (-7, 0): ("right", "center"),
    (0, 12): ("center", "bottom"),
    (0, -12): ("center", "top"),
    (-8, 9): ("right", "bottom"),
    (8, -9): ("left", "top"),
}
STEP = 3.0  # pixels between two samples of a line; names have their weight in samples, too
ROUNDS = 3  # over all names, each in turn moved to where the others leave most room
OUTSIDE = 500  # samples that a name may hide before it may leave the panel


def name_points(ax: Axes, points, names: Iterable[str], size: float = 6.5) -> None:
    """Write a name beside each of `points`, (N, 2) in data, of a figure that is laid out; the panel
    makes no room for them."""
    pairs = zip(np.asarray(points, float), names, strict=True)
    texts = [_placed(ax, point, name, size) for point, name in pairs]
    boxes = [[text.get_window_extent().padded(1) for text in own] for own in texts]
    ink, best = _ink(ax), [0] * len(texts)
    for _ in range(ROUNDS):
        for i, own in enumerate(boxes):
            others = [_grid(boxes[n][at].extents) for n, at in enumerate(best) if n != i]
            taken = np.vstack([ink, *others])
            best[i] = int(np.argmin([_cost(box, taken, ax) for box in own]))
    for own, at in zip(texts, best, strict=True):
        for text in own[:at] + own[at + 1 :]:
            text.remove()


def _placed(ax: Axes, point: np.ndarray, name: str, size: float) -> list[Annotation]:
    """The name at each of PLACES."""
    look = {"textcoords": "offset points", "fontsize": size, "gid": "name", "in_layout": False}
    return [
        ax.annotate(name, point, offset, ha=side, va=level, **look)
        for offset, (side, level) in PLACES.items()
    ]


def _cost(box, ink: np.ndarray, ax: Axes) -> int:
    hidden = ((ink > box.min) & (ink < box.max)).all(axis=1).sum()
    room = ax.bbox.padded(4)
    inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
    return int(hidden) + OUTSIDE * (not inside)


def _ink(ax: Axes) -> np.ndarray:
    """Pixels (N, 2) that lines, bars of errors and markers cover, sampled."""
    found = [np.empty((0, 2))]
    for line in ax.lines:
        path = line.get_transform().transform_path(line.get_path()).vertices
        path = path[np.isfinite(path).all(axis=1)]
        if line.get_linestyle() not in ("None", "none", " ", ""):
            found += [_between(*ends) for ends in zip(path[:-1], path[1:], strict=True)]
        if line.get_marker() not in ("None", "none", " ", "", None):
            found += [_grid((x - 4, y - 4, x + 4, y + 4)) for x, y in path]
    for bars in (c for c in ax.collections if isinstance(c, LineCollection)):
        ends = [bars.get_transform().transform(segment) for segment in bars.get_segments()]
        found += [_between(*pair) for pair in ends if len(pair) == 2]
    return np.vstack(found)


def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    count = int(min(np.hypot(*(end - start)) / STEP, 2000)) + 2
    return np.linspace(start, end, count)


def _grid(box) -> np.ndarray:
    left, low, right, high = box
    x, y = np.arange(left, right + STEP, STEP), np.arange(low, high + STEP, STEP)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
