"""Section 5: what its notebook and parameter files may set."""

from typing import Literal

from moebook.models.one_rank import MODES
from moebook.problems import Wrong
from moebook.study import model_names, params
from moebook.study.lengths import Length
from moebook.study.points import EngineParams

NOTEBOOK = "05_parallelism"


class Params(EngineParams):
    """modes: TP, TP+EP, PP, PP+EP. device_counts: G of the engine itself, 1 among them;
    shard_device_counts: G of the ranks that are run alone. batches (sequences) are those of all
    modes, tp_batches further ones of one device and of TP. tokens: in, and as many out.
    reduced_layers: depths (layers) that a model too large for one device is extrapolated from."""

    notebook: Literal[NOTEBOOK] = NOTEBOOK
    num_devices: params.Count = 2
    models: params.Models = ("tiny-mixtral",)
    modes: params.Names = ("TP", "TP+EP", "PP")
    device_counts: params.Counts = (1, 2)
    shard_device_counts: params.Counts = (2,)
    batches: params.Counts = (8,)
    tp_batches: params.Counts = (1,)
    tokens: Length = Length(16, 16)
    reduced_layers: params.Depths | None = None

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("modes", MODES)
        if self.device_counts and 1 not in self.device_counts:
            allowed = (
                "1 among them: it is what gains are over; or [], which leaves the engine over "
                "several devices out"
            )
            found.append(("device_counts", self.device_counts, allowed))
        if self.tensor_parallel != 1:
            allowed = "1: `modes` and `device_counts` set it here"
            found.append(("tensor_parallel", self.tensor_parallel, allowed))
        depths = self.reduced_layers or ()
        found += model_names.depth_problems("reduced_layers", depths, self.models)
        return found

    def lengths_of(self) -> dict[str, Length | None]:
        return {"models": self.tokens}
