"""A profile as a whole: the runs of all its notebooks, and the verdicts on all claims."""

from collections.abc import Iterator

import pandas as pd

from moebook import paths, sections
from moebook.results import agreement, verdicts
from moebook.results.verdicts import Verdict
from moebook.study.params import load
from moebook.workbook import NoResults, Run


def runs(profile: str, output_root: str | None = None) -> Iterator[Run]:
    """A run of each notebook of a profile that measures something, nothing measured or read yet."""
    for section in sections.of_profile(profile):
        if section.params.measures:
            params = load(section.params, paths.params_file(profile, section.stem))
            if output_root is not None:
                params = params.model_copy(update={"output_root": output_root})
            yield Run(section, params)


def all_verdicts(profile: str, output_root: str | None = None) -> tuple[list[Verdict], list[str]]:
    """(verdicts of every claim, a line per notebook on where its results come from)."""
    tables, origins = [], []
    for run in runs(profile, output_root):
        try:
            res = run.read()
        except NoResults as error:
            origins.append(f"{run.section.stem}: {error}")
            continue
        tables.append(res.summary)
        origins.append(f"{run.section.stem}: {res.origin}")
    if not tables and not origins:
        raise ValueError(
            f"no parameter files for profile {profile!r}; profiles: {', '.join(paths.profiles())}"
        )
    summary = pd.concat(tables, ignore_index=True) if tables else None
    return verdicts.evaluate(summary, sections.claims()), origins


def compared(profile: str, output_root: str | None = None) -> list[agreement.Compared]:
    """One's own results beside the reference's, notebook by notebook."""
    return [
        agreement.compare(run.params, run.plan, run.section.enrich)
        for run in runs(profile, output_root)
    ]
