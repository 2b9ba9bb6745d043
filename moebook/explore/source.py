"""The tables that an explorer draws of: a notebook's own, and others that stand beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from moebook.problems import choices


@dataclass(frozen=True)
class Source:
    """Tables to explore, by name of their profile: the notebook's own, and others with the folder
    of their records, read when they are first chosen. out: where exports are written."""

    profile: str
    table: pd.DataFrame
    folder: Path | None = None
    others: Mapping[str, Callable[[], tuple[pd.DataFrame, Path]]] = field(default_factory=dict)
    out: Path | None = None
    read: dict[str, tuple[pd.DataFrame, Path]] = field(default_factory=dict)

    def rows(self, profiles: tuple[str, ...]) -> pd.DataFrame:
        """The rows of these profiles, one below the other. ValueError names those there are."""
        known = (self.profile, *self.others)
        if unknown := [name for name in profiles if name not in known]:
            raise ValueError(
                f"no results of {unknown[0]!r} to explore; {choices(unknown[0], known)}"
            )
        tables = [self._of(name)[0].assign(profile=name) for name in profiles]
        return pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]

    def folder_of(self, profile: str) -> Path | None:
        return self._of(profile)[1]

    def _of(self, profile: str) -> tuple[pd.DataFrame, Path | None]:
        if profile == self.profile:
            return self.table, self.folder
        if profile not in self.read:
            self.read[profile] = self.others[profile]()
        return self.read[profile]
