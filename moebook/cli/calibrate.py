"""`moebook calibrate`: a calibration of one's own cards from one's own results."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def calibrate(
    outputs: Annotated[Path, typer.Option(help="outputs folder with measured results")] = Path(
        "outputs"
    ),
    to: Annotated[Path, typer.Option(help="folder to write into")] = Path("calibrations"),
) -> None:
    """Fit the performance model to measured results; `moebook predict --calibration` reads it."""
    from moebook.results.calibrating import calibrate as made

    for file, found in made(outputs, to):
        score = found.scores["left out"].get("all")
        typer.echo(f"{file}: {found.inputs['points']} points of {found.device_kind}")
        if score:
            median, most = score["tpot_median_pct"], score["tpot_p90_pct"]
            told = f"TPOT off by {median:.1f} % in the median, {most:.0f} % at the 90th percentile"
            typer.echo(f"  models left out of the fit: {told}")
