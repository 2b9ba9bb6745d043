"""Where things lie: the repository's root from wherever a process stands, and all other paths from
it.

JupyterLab, VS Code and nbconvert start a kernel in the notebook's folder, papermill where it was
called or in `--cwd`, the command in the user's folder. So the root is looked for from the current
folder upwards; outside any checkout it is the one that this package was installed from.

    params/<profile>/<notebook>.yaml                the profiles
    outputs/<profile>/<notebook>/                   results of one's own, ignored by git
    outputs/reference/<profile>/<notebook>/         results that ship with moebook; no command
                                                    writes there
"""

import os
import re
from pathlib import Path

OUTPUTS = "outputs"
REFERENCE = "reference"
_MARKS = ("notebooks", "params", "moebook/paths.py")
_OWN = ("moebook", "notebooks", "params", "tests", "docs", "benchmarks", ".git", ".ci")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*:/", re.IGNORECASE)


class NoCheckout(ValueError):
    """Neither the current folder nor the installed package lies in a checkout of moebook."""


def root() -> Path:
    """The root of the checkout around the current folder, else of the one the package lies in."""
    here = Path.cwd()
    installed = Path(__file__).resolve().parents[1]
    for folder in (here, *here.parents, installed):
        if all((folder / mark).exists() for mark in _MARKS):
            return folder
    raise NoCheckout(
        f"no checkout of moebook (a folder with {', '.join(_MARKS[:2])}) at or above {here}; "
        "go to one, or install the package from one: pip install -e PATH"
    )


def library() -> str:
    """PYTHONPATH of a process started from here, which is to find this very package."""
    here = str(Path(__file__).parents[1])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))


def params_file(profile: str, stem: str) -> Path:
    return root() / "params" / profile / f"{stem}.yaml"


def profiles(stem: str = "*") -> list[str]:
    """Profiles that have a parameter file of this notebook (of any)."""
    return sorted({file.parent.name for file in (root() / "params").glob(f"*/{stem}.yaml")})


def notebook(stem: str) -> Path:
    return root() / "notebooks" / f"{stem}.ipynb"


def output_root(text: str | Path) -> Path:
    """The outputs folder; a relative one lies under the root, and `~` is one's home."""
    return root() / Path(text).expanduser()


def is_address(text: str) -> bool:
    """Whether it is meant for a place elsewhere: a URL, a drive of Windows."""
    return bool(_URL.match(text) or re.match(r"[A-Za-z]:\\", text))


def from_here(text: str) -> str:
    """An outputs folder given on the command line, which lies where the command was called; an
    address as it stands."""
    if is_address(text) or not text.strip():
        return text
    return str(Path.cwd() / Path(text).expanduser())


def output_root_problem(text: str, profile: str = "") -> str | None:
    """What is wrong with an outputs folder, or with a profile's folder in it; or None."""
    if is_address(text):
        return "is an address; results are written to a folder of this machine: give its path"
    if not text.strip() or not text.isprintable() or "$" in text:
        return "give the path of a folder, in one line and without variables"
    try:
        folder = output_root(text).resolve()
        wrong = place_problem(output_root(text))
    except RuntimeError as error:  # ~ of a user that is none
        return f"{error}; give the path of a folder"
    except OSError as error:  # a name longer than any file's
        return f"{error.strerror}; give the path of a folder"
    if shipped := shipped_problem(folder) or shipped_problem(folder / profile):
        return f"{shipped}; give another folder"
    if folder == root() or any(folder.is_relative_to(root() / name) for name in _OWN):
        return f"is a folder of moebook's own files; give {OUTPUTS!r} or a folder elsewhere"
    return wrong and f"{wrong}; give the path of a folder"


def shipped_problem(folder: Path) -> str | None:
    """Why nothing is written there, of a folder of the reference; or None."""
    if folder.resolve().is_relative_to(reference().resolve()):
        return "holds the results that ship with moebook, which nothing writes"
    return None


def place_problem(folder: Path) -> str | None:
    """Why nothing can lie in a folder, which need not exist; or None. OSError where its name cannot
    be one."""
    nearest = next(p for p in (folder, *folder.parents) if p.exists() or p.is_symlink())
    if not nearest.exists():
        return f"{nearest} is a link to nothing"
    if not nearest.is_dir():
        return "is a file" if nearest == folder else f"{nearest} is a file"
    if os.statvfs(nearest).f_blocks == 0:  # /proc and its like
        return f"{nearest} is of a file system that keeps no files"
    return None


def reference() -> Path:
    """The shipped results: <profile>/<notebook>/ below it."""
    return root() / OUTPUTS / REFERENCE


def given(text: str) -> str:
    """A path that a user gave, whole: from the current folder where it exists there, else from the
    root where it exists there; anything else as it stands."""
    for folder in (Path.cwd(), root()):
        if os.path.exists(folder / text):  # False also for names that no file can have
            return os.path.abspath(folder / text)
    return text


def shown(path: str | Path) -> str:
    """A path as people read it: from the root where it lies below, else whole."""
    path = Path(path)
    return str(path.relative_to(root())) if path.is_relative_to(root()) else str(path)
