"""What warm.py's process imports before it forks commands of moebook."""

import matplotlib.figure  # noqa: F401
import pandas  # noqa: F401
import papermill.cli  # noqa: F401

from moebook import cli, sections, workbook  # noqa: F401

WARMED = [(s.params, s.claims, s.figures) for s in sections.every()]
