"""Single values of a quantization config, checked."""

from moebook.models.number_format import Patterns


class BadNumberFormat(ValueError):
    """A quantization config that cannot be read; the text says what was given and what is
    allowed."""


def names_of(entry: dict, *keys: str) -> Patterns:
    """Module names of the first of the keys that is there."""
    for key in keys:
        if (found := entry.get(key)) is not None:
            return names(key, found)
    return Patterns()


def names(key: str, given: object) -> Patterns:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise BadNumberFormat(f"{key}: given {given!r}; a list of module names")
    patterns = Patterns(tuple(given))
    if problem := patterns.problem():
        raise BadNumberFormat(f"{key}: {problem}")
    return patterns


def whole(entry: dict, *keys: str, allowed: tuple[int, ...] = (), default: int | None = None):
    """A whole number under the first of the keys that is there. allowed: its values; none: all."""
    value = next((entry[key] for key in keys if entry.get(key) is not None), default)
    right = isinstance(value, int) and not isinstance(value, bool)
    if not right or (allowed and value not in allowed):
        wanted = " or ".join(map(str, allowed)) if allowed else "a whole number"
        raise BadNumberFormat(f"{keys[0]}: given {value!r}; {wanted}")
    return value


def group_size(entry: dict, *keys: str, default: int | None = None) -> int:
    """Columns that share a scale; -1 for a whole row."""
    value = whole(entry, *keys, default=default)
    if value != -1 and value < 1:
        raise BadNumberFormat(f"{keys[0]}: given {value}; -1 for a whole row, or 1 and more")
    return value


def pair(key: str, given: object) -> tuple[int, int]:
    """Rows and columns of a block."""
    if not (isinstance(given, list) and len(given) == 2 and all(map(_positive, given))):
        raise BadNumberFormat(
            f"{key}: given {given!r}; two whole numbers over 0, such as [128, 128]"
        )
    return given[0], given[1]


def mapping(key: str, given: object, of: str) -> dict:
    if not isinstance(given, dict):
        raise BadNumberFormat(f"{key}: given {given!r}; a mapping of {of}")
    return given


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
