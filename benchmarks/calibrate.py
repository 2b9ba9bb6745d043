"""The shipped calibrations, again from the measured points of the reference results:

    python benchmarks/calibrate.py

But for those of HELD_OUT, which the fit never sees: they check it (docs/methods.md)."""

import argparse
from pathlib import Path

from moebook import paths
from moebook.predict.shipped import FOLDER
from moebook.results.calibrating import calibrate

HELD_OUT = ("2xh200/01_hyperparameter_scaling", "2xh200/03_pruning", "2xh200/09_model_comparison")
TO = Path(__file__).parents[1] / "moebook/predict" / FOLDER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=paths.reference(), help="outputs folder")
    parser.add_argument("--to", type=Path, default=TO)
    given = parser.parse_args()
    for file, made in calibrate(given.outputs, given.to, HELD_OUT):
        print(f"{file}: {made.scores}")
        for name, metrics in made.intervals.items():
            for metric, own in metrics.items():
                print(f"  {name}, {metric}: {told(own)}")


def told(own: dict) -> str:
    """What intervals of a class cover of models that neither fit nor width had seen."""
    held = [f"{level} % hold {share}" for level, share in own["coverage"].items()]
    return f"{', '.join(held)} of {own['n']} points of {own['models']} models"


if __name__ == "__main__":
    main()
