"""Section 9: from parameters to points."""

from dataclasses import replace

from moebook.models import catalog, fitting
from moebook.models.formats import series_name, settings_of
from moebook.sections.model_comparison.params import GRAPHS, LLMS, NEWER, Params
from moebook.study import model_names, points, routing
from moebook.study.plan import EngineSettings, Plan, Point, Workload
from moebook.study.points import full_or_by_depth


def plan(p: Params) -> Plan:
    p = _with_models(p)
    found = [
        q
        for series in p.formats
        for sweep, names in ((LLMS, p.llms), (NEWER, p.newer_llms))
        for name in names
        for point in [_language_model(p, name, series, sweep)]
        for q in full_or_by_depth(
            point, p.device, p.reduced_layers if series in p.depth_formats else None
        )
    ]
    beside = [*_vision_language_models(p), *_imposing(p), *_graphs(p)]
    llms = [point for point in found if {LLMS, NEWER} & set(point.sweeps)]
    return points.plan_of(p, [*found, *beside, *points.energy_twins(p, llms)])


def _with_models(p: Params) -> Params:
    """`fitting` replaced: models whose weights fit in the first format; the imposing check's is the
    largest of them, and where none fits the check is left out."""
    llms, vlms = (
        points.fits(
            p, [p.batch], [length], gpu_memory_utilization=p.gpu_memory_utilization, **format_
        )
        for length, format_ in (
            (p.tokens, settings_of(p.formats[0]) if p.formats else {}),
            (p._vlm_length(), settings_of(p.vlm_format)),
        )
    )
    p = model_names.with_models(p, {"vlms": "vlm"}, llms=llms, newer_llms=llms, vlms=vlms)
    if p.imposing_check != fitting.WORD:
        return p
    fit = [name for name in p.llms if llms(catalog.load(name))]
    return p.model_copy(update={"imposing_check": fit[-1] if fit else None})


def _settings(p: Params, name: str, series: str, longest: int, **given) -> EngineSettings:
    own = {
        "routing": routing.UNIFORM if p.imposes(name) else None,
        "graphs": p.graphs_of(name),
        "gpu_memory_utilization": p.gpu_memory_utilization,
        **settings_of(series),
    }
    return points.settings(p, {p.batch}, longest, **{**own, **given})


def _language_model(p: Params, name: str, series: str, sweep: str, **given) -> Point:
    arch = catalog.load(name)
    engine = _settings(p, name, series, p.tokens.total, **given)
    called = series_name(arch, series)
    return points.point(p, arch, engine, p.batch, p.tokens, sweep, series=called)


def _vision_language_models(p: Params) -> list[Point]:
    """Language parts: image tokens are random ids among the prompt's; the vision tower does not
    run."""
    length = p._vlm_length()
    work = Workload(p.batch, length.tokens_in, length.tokens_out, p.seed)
    return [
        replace(
            _language_model(p, name, p.vlm_format, "vlms"),
            workload=work,
            engine=_settings(p, name, p.vlm_format, length.total),
        )
        for name in p.vlms
    ]


def _imposing(p: Params) -> list[Point]:
    """One model with its own routers and with imposed ones."""
    if p.imposing_check is None or not p.formats:
        return []
    return [
        _language_model(p, p.imposing_check, p.formats[0], "imposing", routing=imposed)
        for imposed in (None, routing.UNIFORM)
    ]


def _graphs(p: Params) -> list[Point]:
    """Models under the profile's graphs and under the engine's own, as its users run it."""
    return [
        _language_model(p, name, series, GRAPHS, graphs=graphs)
        for name in p.graphs_check
        for series in p.formats
        for graphs in dict.fromkeys((p.graphs, "default"))
    ]
