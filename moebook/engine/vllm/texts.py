"""What an engine with trained weights does with text: perplexity, draft tokens accepted, expert
choices, experts of a step, experts removed.

Each of METHODS takes the running engine and the fields of a request, and returns a dict with
`repeats` (and `facts`). Text is cut into windows of S tokens by the checkpoint's own tokenizer.
EngineFailed where the text is too short."""

import hashlib
import json

import numpy as np

from moebook.engine import counts
from moebook.engine.base import EngineFailed
from moebook.engine.vllm import patches_routers
from moebook.engine.vllm.arguments import checkpoint_folder
from moebook.engine.vllm.timing import Counters
from moebook.models.tiny import family
from moebook.study.settings import Workload


def text_windows(text: str, weights: str, count: int, length: int) -> list[list[int]]:
    """`count` windows of `length` token ids from the start of a text file, by the checkpoint's own
    tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint_folder(weights))
    ids = tokenizer(family.text_path(text).read_text(encoding="utf-8"))["input_ids"]
    if len(ids) < count * length:
        raise EngineFailed(
            "failed",
            f"{text} has {len(ids)} tokens; {count} windows of {length} need {count * length}: "
            "give a longer text, or fewer or shorter windows",
        )
    return [ids[i * length : (i + 1) * length] for i in range(count)]


def _windows(engine, workload: Workload, text: str) -> list[list[int]]:
    return text_windows(text, engine.settings.weights, workload.batch, workload.input_tokens)


def perplexity(engine, workload: Workload, text: str, repeats: int, **_) -> dict:
    """exp of the mean negative log-likelihood per token, in `repeats` disjoint parts of the text,
    one row each: B windows of S tokens in all, each read on its own."""
    windows = _windows(engine, workload, text)
    losses = np.concatenate([_losses(engine, [ids]) for ids in windows])
    return {"repeats": _perplexities(losses, repeats)}


def _perplexities(losses: np.ndarray, parts: int) -> list[dict]:
    return [{"perplexity": float(np.exp(p.mean()))} for p in np.array_split(losses, parts)]


def _losses(engine, windows: list[list[int]]) -> np.ndarray:
    """Mean negative log-likelihood (nats per token) of each window, its first token given."""
    _, outputs = engine.generate(windows, max_tokens=1, prompt_logprobs=0)
    return np.array(
        [_loss(o.prompt_logprobs, ids) for o, ids in zip(outputs, windows, strict=True)]
    )


def _loss(logprobs: list, ids: list[int]) -> float:
    """logprobs: of each token, by id; the first has none."""
    return -np.mean([row[i].logprob for row, i in zip(logprobs[1:], ids[1:], strict=True)])


def acceptance(engine, workload: Workload, text: str, repeats: int, **_) -> dict:
    """B prompts of S_in tokens of the text continued by S_out, `repeats` times with other prompts:
    seconds, tokens per step, acceptance by position, digests of what was generated, and the
    distinct experts that one step of the target hits."""
    b, asked = workload.batch, (workload.output_tokens, workload.temperature)
    windows = text_windows(text, engine.settings.weights, b * repeats, workload.input_tokens)
    engine.run_prompts(windows[:b], min(workload.output_tokens, 8), workload.temperature)
    rows = []
    for i in range(repeats):
        before = Counters.of(engine.llm)
        engine.rpc(patches_routers.begin_steps)
        seconds, outputs = engine.run_prompts(windows[i * b : (i + 1) * b], *asked)
        steps = engine.rpc(patches_routers.end_steps)
        digests = ",".join(_digest(o.outputs[0].token_ids) for o in outputs)
        rows.append(
            {
                "e2e_s": seconds,
                "output_digests": digests,
                **Counters.of(engine.llm).since(before),
                **_common_step(steps, most=b * (1 + engine.num_draft_tokens)),
            }
        )
    return {"repeats": rows}


def _digest(token_ids) -> str:
    return hashlib.sha256(json.dumps(list(token_ids)).encode()).hexdigest()[:8]


def _common_step(steps: dict, most: int) -> dict:
    """The decode step in which the whole batch took part; nothing where there was none (n-grams
    seldom all match)."""
    if most not in steps:
        return {}
    return {"step_tokens": most, "experts_per_step": float(np.mean(steps[most]))}


def step_experts(engine, workload: Workload, text: str | None, repeats: int, **_) -> dict:
    """B prompts of S_in tokens continued greedily by S_out, `repeats` times with other prompts:
    distinct experts of a layer, mean over layers, in each decode step that the whole batch takes
    part in. The prompts are windows of the text, without one random ids; alike if the workload says
    so."""
    b, length = workload.batch, workload.input_tokens
    if text is None:
        rng = np.random.default_rng(workload.seed)
        prompts = rng.integers(0, engine.vocab_size, (b * repeats, length)).tolist()
    else:
        prompts = text_windows(text, engine.settings.weights, b * repeats, length)
    rows, courses = [], []
    for i in range(0, b * repeats, b):
        own = [prompts[i]] * b if workload.identical else prompts[i : i + b]
        engine.rpc(patches_routers.begin_steps)
        engine.run_prompts(own, workload.output_tokens, 0.0)
        steps = engine.rpc(patches_routers.end_steps)
        if not (counted := _common_step(steps, most=b)):
            raise EngineFailed("failed", f"no step had all {b} sequences: ask for more tokens")
        rows.append(counted)
        courses.append([round(seen, 4) for seen in steps[b]])
    return {"repeats": rows, "facts": {"step_experts": json.dumps(courses)}}


def route(engine, workload: Workload, text: str, repeats: int, counts_file: str, **_) -> dict:
    """Expert choices of B windows of S tokens, counted per layer into `counts_file`."""
    windows = _windows(engine, workload, text)
    _count_choices(engine, windows, counts_file)
    return {"repeats": [], "facts": {"sequences": len(windows)}}


def _count_choices(engine, windows: list[list[int]], path: str) -> tuple[int, int]:
    """One sequence at a time; returns (L, E)."""
    layers, experts = engine.rpc(patches_routers.watch)
    counts.write(path, (_choices(engine, ids) for ids in windows), layers, experts)
    return layers, experts


def _choices(engine, ids: list[int]):
    """(L, T, K) of one sequence: from the engine's own output where it returns them, else from its
    routers."""
    if engine.settings.routed_experts:
        _, outputs = engine.run_prompts([ids], 1, 0.0)
        chosen = np.asarray(outputs[0].outputs[0].routed_experts)  # (T, L, K)
        return chosen[: len(ids)].transpose(1, 0, 2)
    engine.rpc(patches_routers.begin_choices)
    engine.run_prompts([ids], 1, 0.0)
    return engine.rpc(patches_routers.end_choices)


def ablate(engine, workload: Workload, text: str, repeats: int, counts_file: str, **_) -> dict:
    """Perplexity over the same windows with each expert of each layer taken out of its router in
    turn; the choices of the whole model on them are counted into `counts_file`."""
    windows = _windows(engine, workload, text)
    layers, experts = _count_choices(engine, windows, counts_file)
    base = _losses(engine, windows)
    table = np.empty((layers, experts))
    for layer in range(layers):
        for expert in range(experts):
            engine.rpc(patches_routers.remove, layer, expert)
            table[layer, expert] = np.exp(_losses(engine, windows).mean())
    engine.rpc(patches_routers.remove, None)
    facts = {"ablation_perplexity": json.dumps(table.round(5).tolist())}
    return {"repeats": _perplexities(base, repeats), "facts": facts}


METHODS = {
    "perplexity": perplexity,
    "acceptance": acceptance,
    "step_experts": step_experts,
    "routing": route,
    "ablation": ablate,
}
