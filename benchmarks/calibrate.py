"""The shipped calibrations, again from the measured points of the reference results:

python benchmarks/calibrate.py"""

import argparse
from pathlib import Path

from moebook import paths
from moebook.predict.shipped import FOLDER
from moebook.results.calibrating import calibrate

TO = Path(__file__).parents[1] / "moebook/predict" / FOLDER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outputs", type=Path, default=paths.reference(), help="outputs folder")
    parser.add_argument("--to", type=Path, default=TO)
    given = parser.parse_args()
    for file, made in calibrate(given.outputs, given.to):
        print(f"{file}: {made.scores}")


if __name__ == "__main__":
    main()
