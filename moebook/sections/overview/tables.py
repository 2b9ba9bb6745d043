"""What notebook 00 tells of the whole study: Table 1 beside the slide's, parameter shares, verdicts
of all sections."""

import pandas as pd

from moebook import paths, sections, workbook
from moebook.models import catalog, sizes
from moebook.results import agreement
from moebook.results import verdicts as claims
from moebook.sections import parameters_of

TABLE_1 = (
    "Mixtral-8x7B-v0.1",
    "Qwen1.5-MoE-A2.7B",
    "Qwen3-30B-A3B",
    "DeepSeek-V2-Lite",
    "Phi-3.5-MoE-instruct",
    "OLMoE-1B-7B-0125",
    "deepseek-vl2-tiny",
    "deepseek-vl2-small",
    "deepseek-vl2",
)


def table_1(names: tuple[str, ...] = TABLE_1) -> pd.DataFrame:
    """One row per model: shapes from the published config, and the slide's value where it
    differs."""
    rows = []
    for name in names:
        arch, slide = catalog.load(name), catalog.sources()[name].get("slide") or {}
        own = {
            "num_layers": arch.num_layers,
            "hidden": arch.hidden_size,
            "ffn": arch.expert_ffn_dim,
            "experts": arch.num_experts,
            "top_k": arch.top_k,
        }
        differs = {k: v for k, v in slide.items() if k in own and v is not None and v != own[k]}
        rows.append(
            {
                "model": name,
                **own,
                "shared experts": arch.num_shared_experts,
                "total B": sizes.total_parameters(arch) / 1e9,
                "active B": sizes.active_parameters(arch) / 1e9,
                "bf16 GB": sizes.weight_bytes(arch) / 1e9,
                "the slide prints": ", ".join(f"{k} {v}" for k, v in differs.items()) or "the same",
            }
        )
    return pd.DataFrame(rows)


def parameter_shares(names: tuple[str, ...] = TABLE_1) -> pd.DataFrame:
    """Long table for Fig 1: model, component, total_parameters, active_parameters."""
    rows = []
    for name in names:
        arch = catalog.load(name)
        total, active = sizes.parameter_counts(arch), sizes.active_counts(arch)
        rows += [
            {
                "model": name,
                "component": part,
                "total_parameters": total[part],
                "active_parameters": active.get(part, 0),
            }
            for part in total
            if total[part]
        ]
    return pd.DataFrame(rows)


def parts_to_explore() -> pd.DataFrame:
    """`parameter_shares` as the explorer takes rows: with shares, small parts as one."""
    from moebook.sections.overview.figures import pool_small

    return pool_small(parameter_shares()).assign(status="ok", method="computed")


def sizes_to_explore(names: tuple[str, ...] = TABLE_1) -> pd.DataFrame:
    """Shapes and sizes of models as the explorer takes rows."""
    rows = []
    for arch in map(catalog.load, names):
        rows.append(
            {
                "model": arch.name,
                "num_layers": arch.num_layers,
                "expert_ffn_dim": arch.expert_ffn_dim,
                "num_experts": arch.num_experts,
                "top_k": arch.top_k,
                "weights_bytes": sizes.weight_bytes(arch),
                "total_parameters": sizes.total_parameters(arch),
                "active_parameters": sizes.active_parameters(arch),
            }
        )
    return pd.DataFrame(rows).assign(status="ok", method="computed")


def conflicts() -> pd.DataFrame:
    """Places where the source contradicts itself."""
    frame = pd.DataFrame(claims.load().conflicts)
    return frame.assign(claims=frame["claims"].map(lambda ids: ", ".join(ids) or "–")).rename(
        columns={"also_says": "also says"}
    )


def all_verdicts(profile: str, output_root: str | None = None) -> tuple[list, list[str]]:
    """(verdicts of every claim, a line per notebook on where its results come from)."""
    tables, origins = [], []
    for stem, params, plan in measured_plans(profile, output_root):
        try:
            res = workbook.load(params, plan)
        except workbook.NoResults as error:
            origins.append(f"{stem}: {error}")
            continue
        tables.append(res.summary)
        origins.append(f"{stem}: {res.origin}")
    if not tables and not origins:
        raise ValueError(
            f"no parameter files for profile {profile!r}; profiles: {', '.join(paths.profiles())}"
        )
    summary = pd.concat(tables, ignore_index=True) if tables else None
    return claims.evaluate(summary), origins


def measured_plans(profile: str, output_root: str | None = None):
    """(stem, parameters, plan) of each notebook of a profile that measures something."""
    for stem in sections.STEMS:
        file = paths.params_file(profile, stem)
        if file.exists() and stem != sections.STEMS[0]:
            params, plan = parameters_of(sections.find(stem), file)
            yield (
                stem,
                params
                if output_root is None
                else params.model_copy(update={"output_root": output_root}),
                plan,
            )


def compared(params) -> pd.DataFrame | None:
    """Own results over the reference's, a row a notebook; what there is to say of each is
    printed."""
    if params.dry_run:
        print("dry run: no results are read")
        return None
    found = [
        agreement.compare(own, plan)
        for _, own, plan in measured_plans(params.profile, params.output_root)
    ]
    tables = [one.table for one in found if not one.table.empty]
    if not tables:
        print(
            f"No point of profile {params.profile!r} was measured both here and for the reference: "
            f"nothing to compare."
        )
        return None
    print("\n".join(one.text for one in found))
    by_notebook = pd.concat(tables).groupby("notebook", sort=False)
    return by_notebook.agg(
        points=("ratio", "size"),
        median=("ratio", "median"),
        least=("ratio", "min"),
        most=("ratio", "max"),
        ranges_overlap=("within", "sum"),
    ).reset_index()


def shares_reading():
    """Fig 1 in words: the share of routed and shared experts' FFN layers in all and in active
    parameters."""
    from IPython.display import Markdown

    rows = parameter_shares()
    ffn = rows["component"].isin(["experts", "shared_experts", "dense_ffn"])
    totals = rows.groupby("model", sort=False)[["total_parameters", "active_parameters"]].sum()
    share = (
        100
        * rows[ffn].groupby("model", sort=False)[["total_parameters", "active_parameters"]].sum()
        / totals
    )
    least, least_active = share["total_parameters"].idxmin(), share["active_parameters"].idxmin()
    return Markdown(
        f"FFN layers (routed, shared and dense) hold {share['total_parameters'].min():.0f} % "
        f"({least}) to "
        f"{share['total_parameters'].max():.0f} % of all parameters, and "
        f"{share['active_parameters'].min():.0f} % "
        f"({least_active}) to {share['active_parameters'].max():.0f} % of those active for one "
        f"token."
    )


def claims_table(params):
    """All claims with the verdicts of the profile's results; where they come from is printed."""
    from moebook.results.report import verdict_table

    verdicts, origins = (
        ([], []) if params.dry_run else all_verdicts(params.profile, params.output_root)
    )
    print("\n".join(origins) or "dry run: no results are read")
    return verdict_table(verdicts)
