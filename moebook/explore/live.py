"""Whether somebody can move a slider.

The kernel knows: every front end (JupyterLab, Notebook, VS Code, a console) allows the cell to ask
for input, and every runner (papermill, `moebook run`, nbconvert --execute, nbclient) forbids it, as
there is nobody to answer. That flag travels with each execute request, so it stays right where an
executed notebook is opened later, or papermill is started from a notebook's own cell.
MOEBOOK_HEADLESS=1 forces headless."""

import os

HEADLESS = "The explorer is for a live kernel: open this notebook in JupyterLab or VS Code and run "
HEADLESS += "this cell to use it."


def is_live() -> bool:
    """True where a front end that can answer runs this cell. Imports nothing heavy."""
    if os.environ.get("MOEBOOK_HEADLESS", "") not in ("", "0"):
        return False
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return False
    try:
        request = kernel.get_parent("shell")["content"]
    except (AttributeError, KeyError, TypeError):
        return bool(getattr(kernel, "_allow_stdin", False))
    return bool(request.get("allow_stdin", False))
