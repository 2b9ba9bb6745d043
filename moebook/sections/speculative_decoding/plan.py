"""Section 4: from parameters to points."""

from dataclasses import replace
from math import ceil

from moebook.models import catalog
from moebook.models.tiny import family
from moebook.sections.speculative_decoding.params import MOST_DRAFT_TOKENS, NOTEBOOK, Params
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.lengths import longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import settings
from moebook.study.settings import Speculation

PLAIN, NGRAM = "no speculation", "n-gram"


def plan(p: Params) -> Plan:
    found = [*_cost(p), *_acceptance(p)]
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in found))


def series_name(draft: str) -> str:
    return f"draft {catalog.load(draft).name}"


def _cost(p: Params) -> list[Point]:
    """The target alone, then with each draft: all its lengths and batches in one engine, each
    draft-token count in one."""
    if p.target is None or not p.drafts:
        return []
    found = _cells(p, _plain(p), PLAIN)
    for draft in p.drafts:
        for k in dict.fromkeys((p.draft_tokens_fixed, *p.draft_tokens)):
            found += _cells(
                p,
                _speculating(p, Speculation("draft_model", k, draft, p.acceptance)),
                series_name(draft),
            )
    return [*found, *_checks(p)]


def _checks(p: Params) -> list[Point]:
    """The first draft at another acceptance and under other graphs at one place, the target alone
    under those at all."""
    found, series = [], series_name(p.drafts[0])
    spec = Speculation("draft_model", p.draft_tokens_fixed, p.drafts[0], p.acceptance)
    if p.checked_acceptance is not None:
        found += _cells(
            p, _speculating(p, replace(spec, acceptance=p.checked_acceptance)), series, "spec_check"
        )
    if p.checked_graphs is not None:
        other = p.model_copy(update={"graphs": p.checked_graphs})
        found += [
            replace(point, sweeps=("spec_graphs",)) for point in _cells(other, _plain(other), PLAIN)
        ]
        found += _cells(p, _speculating(other, spec), series, "spec_graphs")
    return found


def _plain(p: Params) -> EngineSettings:
    most = longest([p.tokens, *p.lengths])
    return settings(p, {p.batch, *p.batches}, most.total, weights=model_names.weights_of(p.target))


def _speculating(p: Params, spec: Speculation) -> EngineSettings:
    batches = {p.batch, *p.batches} if spec.num_tokens == p.draft_tokens_fixed else {p.batch}
    most = longest([p.tokens, *p.lengths])
    engine = settings(
        p, batches, most.total, weights=model_names.weights_of(p.target), speculation=spec
    )
    return replace(engine, graph_batch_sizes=_graph_sizes(batches, spec.num_tokens))


def _graph_sizes(batches: set[int], draft_tokens: int) -> tuple[int, ...]:
    """Tokens of a step's forward passes: one a sequence while drafting, `draft_tokens` + 1 where
    the target checks them, one more where the draft first reads what was checked. Left out, that
    pass runs without graphs, paced by the host. In multiples of `draft_tokens` + 1: the engine
    drops a size that it would have to round up beyond the largest."""
    checked = draft_tokens + 1
    return tuple(
        sorted(
            {ceil(b * n / checked) * checked for b in batches for n in (1, checked, checked + 1)}
        )
    )


def _cells(p: Params, engine: EngineSettings, series: str, check: str | None = None) -> list[Point]:
    """The places of one engine: those of its sweeps, or the one of a check."""
    arch, spec = catalog.load(p.target), engine.speculation
    place = (p.batch, p.tokens)
    if check:
        cells = [(*place, check)]
    else:
        here = bool(p.draft_tokens) if spec is None else spec.num_tokens in p.draft_tokens
        cells = [(*place, "spec_tokens")] if here else []
        if spec is None or spec.num_tokens == p.draft_tokens_fixed:
            cells += [(p.batch, n, "spec_length") for n in p.lengths] + [
                (b, p.tokens, "spec_batch") for b in p.batches
            ]
    found = [
        points.point(p, NOTEBOOK, arch, engine, b, n, sweep, series=series) for b, n, sweep in cells
    ]
    if engine.weights == "dummy":
        return found
    return [
        replace(point, workload=replace(point.workload, temperature=0.0)) for point in found
    ]  # own acceptance


def _acceptance(p: Params) -> list[Point]:
    """A trained target with each draft, n-gram lookup, and alone: eager, so that experts hit can be
    counted."""
    if p.trained_target is None:
        return []
    arch = catalog.load(p.trained_target)
    ways: list[tuple[str, Speculation | None]] = [(PLAIN, None)]
    ways += [
        (series_name(d), Speculation("draft_model", p.draft_tokens_fixed, d))
        for d in p.trained_drafts
    ]
    ways += [(NGRAM, Speculation("ngram", p.draft_tokens_fixed))]
    length = p.trained_prompt_tokens + p.trained_output_tokens + MOST_DRAFT_TOKENS
    preset = family.parse(p.trained_target).preset
    found = []
    for series, spec in ways:
        engine = settings(
            p,
            {p.trained_batch},
            length,
            weights=p.trained_target,
            dtype=p.trained_dtype,
            graphs="eager",
            speculation=spec,
            tensor_parallel=1,
        )
        for temperature in p.temperatures:
            for text in p.texts:
                work = Workload(
                    p.trained_batch,
                    p.trained_prompt_tokens,
                    p.trained_output_tokens,
                    p.seed,
                    temperature,
                )
                found.append(
                    Point(
                        NOTEBOOK,
                        arch,
                        engine,
                        work,
                        "acceptance",
                        p.repeats,
                        ("acceptance",),
                        series,
                        f"tiny:{preset}/heldout/{text}",
                    )
                )
    return found
