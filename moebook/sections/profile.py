"""A profile as a whole: the runs of all its notebooks, and the verdicts on all claims."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from moebook import paths, sections
from moebook.results import agreement, verdicts
from moebook.results.claims import Claim
from moebook.results.findings import Verdict
from moebook.results.judge import beside
from moebook.results.loading import NoResults
from moebook.results.verdicts import check_of
from moebook.study.params import load
from moebook.workbook import Run


def runs(profile: str, output_root: str | None = None) -> Iterator[Run]:
    """A run of each notebook of a profile that measures something, nothing measured or read yet."""
    for section in sections.of_profile(profile):
        if section.params.measures:
            params = load(section.params, paths.params_file(profile, section.stem))
            if output_root is not None:
                params = params.model_copy(update={"output_root": output_root})
            yield Run(section, params)


def all_verdicts(
    profile: str, output_root: str | None = None, name: str = ""
) -> tuple[list[Verdict], list[str]]:
    """(verdicts of every claim, or of the one named, a line per place that results come from).
    Verdicts of the same kind of device in other numbers stand beside, from their profiles."""
    claims = [claim for claim in sections.claims() if name in ("", claim.id)]
    if profile not in paths.profiles():
        raise ValueError(
            f"no parameter files for profile {profile!r}; profiles: {', '.join(paths.profiles())}"
        )
    found, origins = _of_profile(profile, output_root, claims)
    others = {other: _of_profile(other, output_root, claims, False)[0] for other in _kin(profile)}
    return [_with_others(one, i, others) for i, one in enumerate(found)], origins


def _lines(origins: dict[str, list[str]]) -> list[str]:
    """`02_quantization: measured on ...`; of several notebooks their numbers."""
    names = [
        [stem.partition("_")[0] for stem in own] if own[1:] else own for own in origins.values()
    ]
    return [f"{', '.join(own)}: {what}" for own, what in zip(names, origins, strict=True)]


def _of_profile(
    profile: str, output_root: str | None, claims: list[Claim], checks: bool = True
) -> tuple[list[Verdict], list[str]]:
    tables, origins = [], {}  # what is said of where results come from -> of which notebooks
    wanted = {claim.notebook for claim in claims}
    for run in runs(profile, output_root):
        if run.section.stem not in wanted:
            continue
        try:
            res = run.read()
        except NoResults as error:
            origins[str(error)] = [run.section.stem]
            continue
        tables.append(res.summary)
        origins.setdefault(res.origin, []).append(run.section.stem)
    summary = pd.concat(tables, ignore_index=True) if tables else None
    return verdicts.evaluate(summary, claims, checks=checks), _lines(origins)


def _kin(profile: str) -> list[str]:
    """The other profiles of the same kind of device in other numbers: `2xh200` of `h200`."""
    kind = re.sub(r"^\d+x", "", profile)
    return [p for p in paths.profiles() if p != profile and re.sub(r"^\d+x", "", p) == kind]


def _with_others(own: Verdict, i: int, others: dict[str, list[Verdict]]) -> Verdict:
    """With the verdicts of other profiles on the same claim, and a check against them."""
    told = {name: found[i] for name, found in others.items() if found[i].verdict != "untested"}
    elsewhere = tuple(beside(name, verdict) for name, verdict in told.items())
    if own.verdict == "untested" or not told:
        return replace(own, elsewhere=elsewhere)
    check = check_of("other devices", own, tuple(v.verdict for v in told.values()))
    return replace(own, elsewhere=elsewhere, checks=(*own.checks, check))


def compared(profile: str, output_root: str | None = None) -> list[agreement.Compared]:
    """One's own results beside the reference's, notebook by notebook."""
    return [
        agreement.compare(run.params, run.plan, run.section.enrich)
        for run in runs(profile, output_root)
    ]
