"""The shipped notebooks executed again and their figures drawn again, after cells or figures have
changed; nothing is measured.

    python benchmarks/redraw.py [PROFILE]

Each shipped folder is copied below outputs/, as if it had been measured here, its notebook run
there, and what was drawn is copied back. A folder of that name that is there already stops it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE, OUTPUTS = ROOT / "outputs/reference", ROOT / "outputs"
DRAWN = ("notebook.ipynb", "provenance.json", "DONE.json", "results.parquet")


def redraw(profile: str) -> None:
    """All notebooks of a profile; the overview, which reads the others, first of all in name."""
    old = shutil.ignore_patterns("figures")  # of which some may not be drawn any more
    shutil.copytree(REFERENCE / profile, OUTPUTS / profile, ignore=old)
    try:
        for folder in sorted((REFERENCE / profile).iterdir()):
            command = [sys.executable, "-m", "moebook", "run", folder.name, "--profile", profile]
            subprocess.run([*command, "--allow-failed"], check=True, cwd=ROOT)
            bring_back(OUTPUTS / profile / folder.name, folder)
    finally:
        shutil.rmtree(OUTPUTS / profile)


def bring_back(drawn: Path, shipped: Path) -> None:
    for name in DRAWN:
        if (drawn / name).exists():
            shutil.copy2(drawn / name, shipped / name)
    shutil.rmtree(shipped / "figures")
    shutil.copytree(drawn / "figures", shipped / "figures")


def main() -> None:
    for profile in sys.argv[1:] or sorted(p.name for p in REFERENCE.iterdir() if p.is_dir()):
        redraw(profile)


if __name__ == "__main__":
    main()
