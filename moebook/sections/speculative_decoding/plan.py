"""Section 4: what speculative decoding costs and gains for a MoE target (Fig 12).

Cost: a target with each draft, acceptance set in the engine's rejection sampler, over length, draft
tokens and batch, the target without drafts beside it. Acceptance: a trained tiny target with its
drafts and n-gram lookup, over temperature and text. What a step costs over what it yields is the
speed-up; analysis/speculation.py puts both together."""

from dataclasses import replace
from math import ceil
from typing import Annotated, Any, Literal

from pydantic import Field

from moebook.models import catalog
from moebook.models.tiny import family
from moebook.study import params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length, both, longest
from moebook.study.plan import EngineSettings, Plan, Point, Speculation, Workload, merge
from moebook.study.points import EngineParams, settings

NOTEBOOK = "04_speculative_decoding"
PLAIN, NGRAM = "no speculation", "n-gram"
MOST_DRAFT_TOKENS = 8  # columns accepted_pos1 ... of the table

Acceptance = Annotated[float, Field(strict=True, gt=0, lt=1)]


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    target: str | None = "tiny:cpu/aux-0.01"
    drafts: params.Names = ("tiny:cpu/draft-small", "tiny:cpu/draft-large")
    acceptance: Acceptance | None = None
    checked_acceptance: Acceptance | None = None
    checked_graphs: points.Graphs | None = None
    draft_tokens: params.Counts = (1, 3)
    draft_tokens_fixed: params.Count = 3
    lengths: params.Lengths = both(16, 32)
    batches: params.Counts = (1, 4)
    batch: params.Count = 4
    tokens: Length = Length(16, 16)
    trained_target: str | None = "tiny:cpu/aux-0.01"
    trained_drafts: params.Names = (
        "tiny:cpu/draft-small",
        "tiny:cpu/draft-medium",
        "tiny:cpu/draft-large",
    )
    temperatures: params.NonNegatives = (0.0,)
    texts: params.Names = ("code", "prose", "numbers")
    trained_batch: params.Count = 4
    trained_prompt_tokens: params.Count = 96
    trained_output_tokens: params.Count = 32
    trained_dtype: str = "float32"

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        found += points.unknown("texts", self.texts, family.DOMAINS)
        found += points.unknown("trained_dtype", [self.trained_dtype], points.DTYPES)
        found += [
            ("draft_tokens", k, f"at most {MOST_DRAFT_TOKENS}")
            for k in (*self.draft_tokens, self.draft_tokens_fixed)
            if k > MOST_DRAFT_TOKENS
        ]
        if self.trained_target is not None:
            found += points.trained_problems("trained_target", self.trained_target)
        if self.device == "cpu" and self.acceptance is not None:
            found.append(
                (
                    "acceptance",
                    self.acceptance,
                    "null on a CPU, whose engine cannot set it: trained drafts give their own",
                )
            )
        if self.device == "cpu" and max(self.temperatures, default=0) > 0:
            found.append(
                (
                    "temperatures",
                    self.temperatures,
                    "0 alone on a CPU, whose engine accepts hardly any draft token at others",
                )
            )
        trained = Length(self.trained_prompt_tokens, self.trained_output_tokens)
        for names, length in (
            (("target", "drafts"), longest([self.tokens, *self.lengths])),
            (("trained_target", "trained_drafts"), trained),
        ):
            target = getattr(self, names[0])
            if target is not None:
                found += points.model_problems(names[0], [target], length)
                found += points.draft_problems(names[1], target, getattr(self, names[1]))
        return found


def plan(p: Params) -> Plan:
    found = [*_cost(p), *_acceptance(p)]
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in found))


def views() -> tuple:
    from moebook.explore.views import View

    return (
        View("over draft tokens", "spec_tokens", "draft_tokens", "series", log_x=False),
        View("over length", "spec_length", "input_tokens", "series"),
        View("over batch", "spec_batch", "batch", "series"),
        View(
            "acceptance",
            "acceptance",
            "temperature",
            "series",
            "text",
            "acceptance_rate",
            log_x=False,
        ),
    )


def figures() -> dict:
    from moebook.plot.checks import predicted_vs_measured
    from moebook.sections.speculative_decoding import figures as f

    return {
        "fig12_length": f.over_length,
        "fig12_tokens": f.over_draft_tokens,
        "over_batch": f.over_batch,
        "acceptance": f.acceptance,
        "acceptance_by_position": f.by_position,
        "speedup": f.speedup,
        "break_even": f.break_even,
        "experts_hit": f.experts_hit,
        "predicted_vs_measured": predicted_vs_measured,
    }


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
    return settings(p, {p.batch, *p.batches}, most.total, weights=points.weights_of(p.target))


def _speculating(p: Params, spec: Speculation) -> EngineSettings:
    batches = {p.batch, *p.batches} if spec.num_tokens == p.draft_tokens_fixed else {p.batch}
    most = longest([p.tokens, *p.lengths])
    engine = settings(p, batches, most.total, weights=points.weights_of(p.target), speculation=spec)
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
