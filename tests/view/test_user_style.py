"""A figure is the same bytes whatever the user's matplotlibrc and style sheets say."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

HOSTILE = """
savefig.bbox: tight
savefig.pad_inches: 0.5
savefig.dpi: 71
savefig.transparent: True
savefig.facecolor: black
savefig.orientation: landscape
text.usetex: True
font.family: serif
font.size: 17
mathtext.fontset: cm
figure.dpi: 61
figure.autolayout: True
figure.constrained_layout.use: True
axes.prop_cycle: cycler('color', ['red', 'black'])
axes.facecolor: yellow
axes.titlelocation: left
axes.xmargin: 0.3
axes.formatter.use_locale: True
axes.unicode_minus: False
lines.linestyle: --
lines.marker: x
errorbar.capsize: 7
patch.edgecolor: red
patch.force_edgecolor: True
hatch.color: red
legend.loc: lower left
legend.numpoints: 3
xtick.direction: in
ytick.right: True
ytick.minor.visible: True
path.sketch: 1, 100, 2
path.simplify: False
svg.fonttype: path
svg.hashsalt: mine
pdf.compression: 0
pdf.fonttype: 3
image.cmap: gray
grid.linestyle: :
date.autoformatter.day: %d
"""
TESTS = str(Path(__file__).parent)
OWN_PROCESS = """
import json, sys
sys.path.insert(0, {tests!r})
from test_user_style import digests
print(json.dumps(digests(sys.argv[1])))
"""  # matplotlib reads a matplotlibrc as it is imported


def digests(folder: str | Path) -> dict[str, str]:
    """Digest of each figure's bytes; one of them is saved there."""
    import view_tables as t

    from moebook.plot import figure_files, layout
    from moebook.sections.hyperparameter_scaling import figures
    from moebook.sections.model_comparison import breakdown

    drawn = {
        "lines": figures.ffn_scaling(t.tiny_grid(), width="column"),
        "heat": figures.grid_heatmap(t.tiny_grid()),
        "bars": breakdown.parameter_breakdown(t.grid()),
    }
    layout.footer(drawn["lines"][0], "reference results of moebook: NVIDIA H200, vllm 0.26.0")
    figure_files.save(*drawn["lines"], folder, "lines", formats=("pdf",), width="column")
    return {
        f"{name}.{kind}": hashlib.sha256(figure_files.render(fig, kind)).hexdigest()
        for name, (fig, _) in drawn.items()
        for kind in figure_files.FORMATS
    }


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> dict[str, str]:
    with mpl.rc_context():
        mpl.rcdefaults()
        return digests(tmp_path_factory.mktemp("clean"))


def under_matplotlibrc(folder: Path) -> dict[str, str]:
    (folder / "matplotlibrc").write_text(HOSTILE)
    done = subprocess.run(
        [sys.executable, "-c", OWN_PROCESS.format(tests=TESTS), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "MATPLOTLIBRC": str(folder / "matplotlibrc")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def under_style_sheets(folder: Path) -> dict[str, str]:
    import matplotlib.pyplot as plt

    with mpl.rc_context():
        plt.style.use("dark_background")
        plt.xkcd()
        return digests(folder)


@pytest.mark.parametrize("drawn", [under_matplotlibrc, under_style_sheets])
def test_the_bytes_are_those_without_it(clean, tmp_path, drawn):
    assert len(clean) == 9 and drawn(tmp_path) == clean
    pdf = (tmp_path / "lines.pdf").read_bytes()
    box = pdf[pdf.index(b"/MediaBox") :].split(b"]")[0].split(b"[")[1].split()
    assert round(float(box[2]) / 72, 2) == 3.33
