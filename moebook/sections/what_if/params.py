"""Section 10: what its notebook and parameter files may say."""

from typing import ClassVar, Literal

from moebook.problems import Wrong
from moebook.sections.what_if.setup import FIELDS, Fields, Setup, parsed
from moebook.study import params

NOTEBOOK = "10_what_if"


class Params(Fields, params.NotebookParams):
    """Configuration A, and B, which is A but for what `other` names, a `name: value` each."""

    notebook: Literal[NOTEBOOK] = NOTEBOOK
    measures: ClassVar[bool] = False
    other: params.Names = ("number_format: fp8",)

    @property
    def setups(self) -> tuple[Setup, Setup]:
        """A and B. ValueError for what `other` cannot change."""
        a = Setup(**{name: getattr(self, name) for name in FIELDS})
        return a, a.changed(parsed(self.other))

    def problems(self) -> list[Wrong]:
        """Also what an engine would refuse, and what is not calibrated."""
        found, at_fault = super().problems(), "other"
        try:
            a, b = self.setups
            at_fault = "model"
            a.predict()
            at_fault = "other"
            b.predict()
        except ValueError as error:
            found.append(self.wrong(at_fault, str(error)))
        return found
