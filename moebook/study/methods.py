"""How a point gets its numbers: the one table of methods.

A new method is a row here, what the engine does for it (`engine/base.py`: measure or read), and
the section's points that ask for it."""

from dataclasses import dataclass

TRAINED = (
    "trained weights read a text: their routing is not near uniform, which floor and prediction "
    "assume"
)
NOT_TIMED = "no run of an engine was timed"
TIMES = ("ttft_s", "e2e_s")


@dataclass(frozen=True)
class Method:
    """meaning: what is done. op: what the worker is asked (measure/worker.py); None: nothing, the
    numbers are extrapolated from other points. has: what every repeat has. kind: how figures mark
    it, its own name where None. no_floor: why neither roofline bound nor prediction speaks of it.
    generates: every output token is. counts: it leaves a file of expert choices."""

    meaning: str
    op: str | None = "measure"
    has: tuple[str, ...] = TIMES
    kind: str | None = None
    no_floor: str | None = None
    generates: bool = False
    counts: bool = False

    @property
    def needs_engine(self) -> bool:
        return self.op in ("measure", "read", None)


METHODS = {
    "full": Method("every decode step is run", generates=True),
    "sampled": Method(
        "decode steps are timed at the first and last contexts of the run; their mean is the run's "
        "(a step's cost is linear in context, because the KV cache read is)"
    ),
    "depth": Method("full depth from engines with fewer layers: t(L) = a + b L", None),
    "depth+sampled": Method("both", None, kind="depth"),
    "energy": Method(
        "prefill and decode steps over and over, for the driver's energy counter", kind="sampled"
    ),
    "layer": Method(
        "one MoE layer alone, over `batch` tokens, with the backend of `engine.moe_backend`",
        "layer",
        ("layer_s",),
        no_floor=NOT_TIMED,
    ),
    "perplexity": Method(
        "trained weights: exp of the mean negative log-likelihood of held-out text",
        "read",
        ("perplexity",),
        no_floor=NOT_TIMED,
    ),
    "acceptance": Method(
        "trained weights: text is continued, draft tokens accepted are counted",
        "read",
        ("e2e_s",),
        no_floor=TRAINED,
        generates=True,
    ),
    "step_experts": Method(
        "trained weights: text is continued, distinct experts of each step are counted",
        "read",
        ("step_tokens", "experts_per_step"),
        no_floor=TRAINED,
        generates=True,
    ),
    "routing": Method(
        "expert choices of a text are counted, per layer", "read", (), None, TRAINED, counts=True
    ),
    "ablation": Method(
        "perplexity with each expert taken out of its router in turn",
        "read",
        ("perplexity",),
        no_floor=TRAINED,
        counts=True,
    ),
    "training": Method(
        "what training a member of the tiny family recorded, once",
        "training",
        ("perplexity",),
        no_floor="no engine was run",
    ),
    "endpoint": Method(
        "a server elsewhere answers `batch` requests at a time",
        "endpoint",
        no_floor="another device answered; accelerators.py has its roofline",
    ),
}
DIRECT_FIRST = ("full", "sampled", "depth", "depth+sampled")  # of timed runs
COUNTED = tuple(name for name, how in METHODS.items() if how.counts)
