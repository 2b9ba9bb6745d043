"""A plotly figure in a live notebook, by anywidget: plotly.js comes with the installed package, so
that nothing is fetched from outside.

plotly's own FigureWidget sends a change of lines as several messages, each of which draws again;
here a picture is one dict, one message and one drawing (Plotly.react)."""

import anywidget
import traitlets
from plotly.offline import get_plotlyjs

# plotly.js, which sets window.Plotly, is a module of its own that render waits for: anywidget gives
# up on a widget whose own module takes over two seconds, as 5 MB may on a busy machine
RENDER = """
const config = { displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
const library = source => window.moebookPlotly ??= import(
  URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
function render({ model, el }) {
  const div = document.createElement("div");
  div.className = "moebook-chart";
  div.style.width = "100%";
  el.appendChild(div);
  let listens = false;
  const draw = async () => {
    await library(model.get("library"));
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


class Chart(anywidget.AnyWidget):
    """figure: {data, layout} of plotly. clicked: [customdata of the point, when]. library:
    plotly.js."""

    _esm = RENDER
    figure = traitlets.Dict().tag(sync=True)
    clicked = traitlets.List().tag(sync=True)
    library = traitlets.Unicode().tag(sync=True)

    def __init__(self, figure: dict):
        super().__init__(library=get_plotlyjs(), figure=figure)
