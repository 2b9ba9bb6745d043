"""Cases of the performance models from a few numbers."""

from moebook.predict.case import Case
from moebook.predict.roofline import floor_of
from moebook.study.settings import EngineSettings, Workload


def case(arch, batch, tokens_in, tokens_out, dtype="bfloat16", **settings) -> Case:
    return Case(arch, EngineSettings(dtype, **settings), Workload(batch, tokens_in, tokens_out))


def floor(arch, batch, tokens_in, tokens_out, ceilings, dtype="bfloat16", **settings):
    return floor_of(case(arch, batch, tokens_in, tokens_out, dtype, **settings), ceilings)
