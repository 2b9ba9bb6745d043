"""The shipped notebooks executed again and their figures drawn again, after cells or figures have
changed; nothing is measured.

    python benchmarks/redraw.py [PROFILE]

All that ships is copied below outputs/, as if it had been measured here, for a claim is judged
beside other profiles; notebooks run there, and what was drawn is copied back. A folder of such a
name that is there already stops it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REFERENCE, OUTPUTS = ROOT / "outputs/reference", ROOT / "outputs"
DRAWN = ("notebook.ipynb", "provenance.json", "DONE.json", "results.parquet")


def redraw(profile: str) -> None:
    """All notebooks of a profile; the overview, which reads the others, first of all in name."""
    for folder in sorted((REFERENCE / profile).iterdir()):
        command = [sys.executable, "-m", "moebook", "run", folder.name, "--profile", profile]
        subprocess.run([*command, "--allow-failed"], check=True, cwd=ROOT)
        bring_back(OUTPUTS / profile / folder.name, folder)


def bring_back(drawn: Path, shipped: Path) -> None:
    for name in DRAWN:
        if (drawn / name).exists():
            shutil.copy2(drawn / name, shipped / name)
    shutil.rmtree(shipped / "figures")
    shutil.copytree(drawn / "figures", shipped / "figures")


def main() -> None:
    profiles = sorted(path.name for path in REFERENCE.iterdir() if path.is_dir())
    old = shutil.ignore_patterns("figures")  # of which some may not be drawn any more
    copied = []
    try:
        for profile in profiles:
            shutil.copytree(REFERENCE / profile, OUTPUTS / profile, ignore=old)
            copied.append(OUTPUTS / profile)
        for profile in sys.argv[1:] or profiles:
            redraw(profile)
    finally:
        for folder in copied:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
