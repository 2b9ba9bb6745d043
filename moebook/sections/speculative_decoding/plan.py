"""Section 4: from parameters to points, and the names of its series."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from math import ceil

from moebook.models import catalog
from moebook.models.tiny import family
from moebook.sections.speculative_decoding.params import MOST_DRAFT_TOKENS, Params
from moebook.study import labels, model_names, points
from moebook.study.lengths import longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload
from moebook.study.points import settings
from moebook.study.settings import Speculation

PLAIN, NGRAM = "no speculation", "n-gram"


def plan(p: Params) -> Plan:
    """Points of cost (sweeps spec_length, spec_tokens, spec_batch, spec_check, spec_graphs) and of
    acceptance (sweep acceptance)."""
    cost = _cost(p)
    metered = points.energy_twins(p, [point for point in cost if "spec_batch" in point.sweeps])
    return points.plan_of(p, [*cost, *metered, *_acceptance(p)])


def series_of(spec: Speculation | None, drafts: Iterable[str]) -> str:
    """What the table calls a way to decode, of one of these drafts."""
    if spec is None:
        return PLAIN
    return f"draft {labels.of_names(drafts)[spec.draft]}" if spec.draft else NGRAM


def _cost(p: Params) -> list[Point]:
    """The target alone, then with each draft: all its lengths and batches in one engine, each
    draft-token count in one. Then checks at one place: the first draft at another acceptance and
    under other graphs; the target alone under those at all places."""
    if p.target is None or not p.drafts:
        return []
    counts = dict.fromkeys((p.draft_tokens_fixed, *p.draft_tokens))
    specs = [
        Speculation("draft_model", k, draft, p.acceptance) for draft, k in product(p.drafts, counts)
    ]
    found = [point for spec in (None, *specs) for point in _cells(p, spec)]
    if p.checked_acceptance is not None:
        found += _cells(p, replace(specs[0], acceptance=p.checked_acceptance), "spec_check")
    if p.checked_graphs is not None:
        other = p.model_copy(update={"graphs": p.checked_graphs})
        found += [replace(point, sweeps=("spec_graphs",)) for point in _cells(other, None)]
        found += _cells(other, specs[0], "spec_graphs")
    return found


def _cells(p: Params, spec: Speculation | None, check: str | None = None) -> list[Point]:
    """The places of one engine: those of its sweeps, or the one of a check."""
    engine, fixed = _engine(p, spec), spec is None or spec.num_tokens == p.draft_tokens_fixed
    counted = bool(p.draft_tokens) if spec is None else spec.num_tokens in p.draft_tokens
    cells = [(p.batch, p.tokens, check or "spec_tokens")] if check or counted else []
    if fixed and not check:
        cells += [(p.batch, n, "spec_length") for n in p.lengths]
        cells += [(b, p.tokens, "spec_batch") for b in p.batches]
    arch, name = catalog.load(p.target), series_of(spec, p.drafts)
    found = [points.point(p, arch, engine, b, n, sweep, series=name) for b, n, sweep in cells]
    if engine.weights == "dummy":
        return found
    # greedy, so that the acceptance is the drafts' own
    return [replace(point, workload=replace(point.workload, temperature=0.0)) for point in found]


def _engine(p: Params, spec: Speculation | None) -> EngineSettings:
    fixed = spec is None or spec.num_tokens == p.draft_tokens_fixed
    batches = {p.batch, *p.batches} if fixed else {p.batch}
    most = longest([p.tokens, *p.lengths]).total
    weights = model_names.weights_of(p.target)
    engine = settings(p, batches, most, weights=weights, speculation=spec)
    if spec is None:
        return engine
    return replace(engine, graph_batch_sizes=_graph_sizes(batches, spec.num_tokens))


def _graph_sizes(batches: set[int], draft_tokens: int) -> tuple[int, ...]:
    """Tokens of a step's forward passes: one a sequence while drafting, `draft_tokens` + 1 where
    the target checks them, one more where the draft first reads what was checked. Left out, that
    pass runs without graphs, paced by the host. In multiples of `draft_tokens` + 1: the engine
    drops a size that it would have to round up beyond the largest."""
    checked = draft_tokens + 1
    passes = product(batches, (1, checked, checked + 1))
    return tuple(sorted({ceil(b * n / checked) * checked for b, n in passes}))


def _acceptance(p: Params) -> list[Point]:
    """A trained target with each draft, n-gram lookup, and alone: eager, so that experts hit can be
    counted."""
    if p.trained_target is None:
        return []
    arch, preset = catalog.load(p.trained_target), family.parse(p.trained_target).preset
    k, tokens_in, tokens_out = (
        p.draft_tokens_fixed,
        p.trained_prompt_tokens,
        p.trained_output_tokens,
    )
    drafts = [Speculation("draft_model", k, draft) for draft in p.trained_drafts]
    found = []
    for spec in (None, *drafts, Speculation("ngram", k)):
        engine = settings(
            p,
            {p.trained_batch},
            tokens_in + tokens_out + MOST_DRAFT_TOKENS,
            weights=p.trained_target,
            dtype=p.trained_dtype,
            graphs="eager",
            speculation=spec,
            tensor_parallel=1,
        )
        found += [
            points.of_work(
                p,
                arch,
                engine,
                Workload(p.trained_batch, tokens_in, tokens_out, p.seed, temperature),
                method="acceptance",
                sweep="acceptance",
                series=series_of(spec, p.trained_drafts),
                text=f"tiny:{preset}/heldout/{text}",
            )
            for temperature, text in product(p.temperatures, p.texts)
        ]
    return found
