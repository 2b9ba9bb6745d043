"""Section 10's sliders in JupyterLab: each move changes the picture, and how long that takes; a
measured point tells what it is."""

from lab import Notebook

MOST_MS = 300
# n-th slider of the notebook, a key on its handle -> milliseconds until another picture is drawn
MOVE = """async ([index, key]) => {
  const handle = [...document.querySelectorAll('.jupyter-widgets .noUi-handle')][index];
  const chart = [...document.querySelectorAll('.moebook-chart')].at(-1);
  const picture = () => chart.querySelector('.cartesianlayer').innerHTML;
  const before = picture();
  const drawn = new Promise((done, late) => {
    new MutationObserver(() => { if (picture() !== before) done(performance.now()); }).observe(
      chart, {attributeFilter: ['data-drawn']});
    setTimeout(() => late(new Error('slider ' + index + ': no other picture in 20 s')), 20000);
  });
  const start = performance.now();
  handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
  return await drawn - start;
}"""
SLIDERS = 14  # seven of A and of B, side by side


def test_a_slider_changes_the_picture_and_says_how_long_it_took(lab, page, capsys):
    notebook = Notebook(lab, page, "10_what_if")
    notebook.run_all()
    chart = notebook.explorer
    chart.locator(".scatterlayer .points path").first.wait_for(timeout=60_000)
    chart.scroll_into_view_if_needed()
    assert page.locator(".jupyter-widgets .noUi-handle").count() == SLIDERS
    times = [page.evaluate(MOVE, [index, "ArrowLeft"]) for index in (0, 3, 4, 8, 11)]
    point = chart.locator(".scatterlayer .trace", has=page.locator(".points path")).nth(0)
    box = point.locator(".points path").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    chart.locator(".hoverlayer .hovertext").first.wait_for(timeout=60_000)
    assert page.get_by_text("Predicted: B has ").last.is_visible()
    median = sorted(times)[len(times) // 2]
    with capsys.disabled():
        each = ", ".join(f"{ms:.0f}" for ms in times)
        print(f"\nwhat if, slider to changed picture: median {median:.0f} ms of {each}")
    assert median < 5 * MOST_MS, times
