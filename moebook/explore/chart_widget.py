"""A plotly figure in a live notebook, by anywidget: plotly.js comes with the installed package, so
that nothing is fetched from outside.

plotly's own FigureWidget sends a change of lines as several messages, each of which draws again;
here a picture is one dict, one message and one drawing (Plotly.react)."""

from functools import cache

import anywidget
import traitlets
from plotly.offline import get_plotlyjs

# a module of its own scope: plotly.js sets window.Plotly
RENDER = """
const config = {
  displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"],
};
function render({ model, el }) {
  const div = document.createElement("div");
  div.className = "moebook-chart";
  div.style.width = "100%";
  el.appendChild(div);
  let listens = false;
  const draw = async () => {
    const { data, layout } = model.get("figure");
    await window.Plotly.react(div, data, { ...layout, autosize: true }, config);
    div.dataset.drawn = Number(div.dataset.drawn || 0) + 1;
    if (!listens) {
      listens = true;
      div.on("plotly_click", event => {
        const row = event.points[0].customdata;
        if (row === undefined) return;
        model.set("clicked", [row, Date.now()]);
        model.save_changes();
      });
    }
  };
  const fit = new ResizeObserver(() => {
    if (div.offsetWidth && div._fullLayout) window.Plotly.Plots.resize(div);
  });
  model.on("change:figure", draw);
  draw().then(() => fit.observe(div));
  return () => { fit.disconnect(); model.off("change:figure", draw); window.Plotly.purge(div); };
}
export default { render };
"""


@cache
def _module() -> str:
    return f"{get_plotlyjs()}\n{RENDER}"


class Chart(anywidget.AnyWidget):
    """figure: {data, layout} of plotly. clicked: [customdata of the point, when]."""

    figure = traitlets.Dict().tag(sync=True)
    clicked = traitlets.List().tag(sync=True)

    def __init__(self, figure: dict):
        super().__init__(_esm=_module(), figure=figure)
