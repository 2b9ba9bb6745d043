"""Section 0: what its notebook and parameter files may say."""

from typing import ClassVar, Literal

from moebook.study import params

NOTEBOOK = "00_overview"


class Params(params.NotebookParams):
    """Whose results are judged and compared, and where they lie; nothing is measured."""

    notebook: Literal[NOTEBOOK] = NOTEBOOK
    measures: ClassVar[bool] = False
