"""A figure is the same bytes whatever the user's matplotlibrc and style sheets say."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
DRAW = """
import hashlib, json, sys
sys.path.insert(0, {tests!r})
if {styled}:
    import matplotlib.pyplot as plt
    plt.style.use("dark_background")
    plt.xkcd()
import view_tables as t
from moebook.plot import layout, style
from moebook.sections.hyperparameter_scaling import figures
from moebook.sections.model_comparison import breakdown
drawn = {{"lines": figures.ffn_scaling(t.tiny_grid(), width="column"),
         "heat": figures.grid_heatmap(t.grid()),
         "bars": breakdown.parameter_breakdown(t.grid())}}
layout.footer(drawn["lines"][0], "reference results of moebook: NVIDIA H200, vllm 0.26.0")
print(json.dumps({{f"{{name}}.{{kind}}": hashlib.sha256(style.render(fig, kind)).hexdigest()
                  for name, (fig, _) in drawn.items() for kind in style.FORMATS}}))
style.save(*drawn["lines"], sys.argv[1], "lines", width="column")
"""


def digests(folder: Path, rc: str = "", styled: bool = False) -> dict[str, str]:
    """Digest of each figure's bytes, drawn in a process of its own under a matplotlibrc."""
    folder.mkdir()
    (folder / "matplotlibrc").write_text(rc)
    code = DRAW.format(tests=str(Path(__file__).parent), styled=styled)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "MATPLOTLIBRC": str(folder / "matplotlibrc")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> dict[str, str]:
    return digests(tmp_path_factory.mktemp("clean") / "rc")


@pytest.mark.parametrize(
    ("rc", "styled"),
    [(HOSTILE, False), ("", True)],
    ids=["matplotlibrc", "style sheets"],
)
def test_the_bytes_are_those_without_it(clean, tmp_path, rc, styled):
    assert len(clean) == 9 and digests(tmp_path / "rc", rc, styled) == clean
    pdf = (tmp_path / "rc" / "lines.pdf").read_bytes()
    box = pdf[pdf.index(b"/MediaBox") :].split(b"]")[0].split(b"[")[1].split()
    assert round(float(box[2]) / 72, 2) == 3.33
