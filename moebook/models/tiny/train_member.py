"""The training of one member of the tiny family: plain PyTorch over transformers' model classes.

All members of a preset see the same windows in the same order: the windows of a step depend on the
seed and the step only, so a run that goes on from a checkpoint ends in the same weights as one that
was never cut short. The model computes in the checkpoint's dtype; AdamW keeps float32 masters.

Letters: B windows of a batch, S tokens of a window, V vocabulary, L layers, E experts.
"""

import json
import math
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from moebook.models import cache_folder, sizes
from moebook.models.tiny import corpus, family, losses
from moebook.models.tiny.losses import perplexities, windows
from moebook.models.tiny.recipes import PRESETS, Preset, Recipe, hf_config

LOG_LINES = 20
STATE = {"step", "seconds", "loss", "load", "master", "model", "optimizer"}  # of a checkpoint
LOAD_RECORDS = 9


class Training:
    """One member, from its recipe to its folder in the cache."""

    def __init__(
        self, preset: str, member: str, folder: Path, say: Callable[[str], object] = print
    ):
        self.preset_name, self.member, self.folder, self.say = preset, member, folder, say
        self.preset: Preset = PRESETS[preset]
        self.recipe: Recipe = self.preset.members[member]
        self.checkpoint = folder / f".{member}.checkpoint.pt"
        self.step, self.seconds, self.loss, self.load = 0, 0.0, [], {"steps": [], "counts": []}
        self.streams = {
            p.stem.removeprefix("train-"): np.load(p)
            for p in sorted((folder / "corpus").glob("train-*.npy"))
        }

    def run(self) -> None:
        with _threads(self.preset.device):
            self.model = build(self.recipe, self.preset)
            self.master = [
                p.detach().float().clone() for p in self.model.parameters() if p.requires_grad
            ]
            self.optimizer = torch.optim.AdamW(
                _groups(self.master, self.preset.weight_decay),
                lr=self.recipe.lr,
                betas=(0.9, 0.95),
                fused=True,
            )
            to_dtype(self.model, getattr(torch, self.preset.dtype))
            self._resume()
            with losses.Watch(self.model) as watch:
                self._steps(watch)
            self._save()
        self.checkpoint.unlink(missing_ok=True)

    def _steps(self, watch: losses.Watch) -> None:
        recorded, started = load_steps(self.recipe.steps), time.monotonic() - self.seconds
        for step in range(self.step, self.recipe.steps):
            if watch.routers and step in recorded and step not in self.load["steps"]:
                self._record_load(watch, step)
            loss = self._one_step(watch, step)
            self.step, self.seconds = step + 1, time.monotonic() - started
            every, ends = max(1, self.recipe.steps // LOG_LINES), (1, self.recipe.steps)
            if self.step % every == 0 or self.step in ends:
                self.loss.append([self.step, float(loss)])
                self._log(watch)
            watch.clear()
            if self.step % self.preset.checkpoint_every == 0 and self.step < self.recipe.steps:
                self._keep()
        if watch.routers:
            self._record_load(watch, self.recipe.steps)

    def _one_step(self, watch: losses.Watch, step: int) -> torch.Tensor:
        """Forward, backward, AdamW on the masters, masters to the model, selection biases; returns
        the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * rate(step, self.recipe.steps, self.preset.warmup)
        ids = self._batch(step)  # (B, S + 1)
        logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits  # (B, S, V)
        loss = cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
        (loss + self.recipe.aux * watch.auxiliary_loss() if self.recipe.aux else loss).backward()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        for master, parameter in zip(self.master, trained, strict=True):
            master.grad, parameter.grad = parameter.grad.float(), None
        torch.nn.utils.clip_grad_norm_(self.master, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(trained, self.master)
        if self.recipe.bias_step:
            watch.update_biases(self.recipe.bias_step)
        return loss.detach()

    def _batch(self, step: int) -> torch.Tensor:
        """Windows of this step: their domains by MIX, their places at random."""
        rng, names = np.random.default_rng([self.preset.seed, step]), list(self.streams)
        share = np.array([corpus.MIX.get(d, 1.0) for d in names])
        rows = []
        for domain in rng.choice(names, self.preset.batch, p=share / share.sum()):
            start = rng.integers(len(self.streams[domain]) - self.preset.window)
            rows.append(self.streams[domain][start : start + self.preset.window + 1])
        return torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.preset.device)

    @torch.no_grad()
    def _record_load(self, watch: losses.Watch, step: int) -> None:
        """Expert counts on the fixed held-out batch."""
        watch.clear()
        self.model(input_ids=self._load_batch(), use_cache=False)
        self.load["steps"].append(step)
        self.load["counts"].append(watch.counts().tolist())
        watch.clear()

    def _load_batch(self) -> torch.Tensor:
        if not hasattr(self, "_held"):
            count, length = self.preset.load_windows, self.preset.window
            ids = windows(self.folder / "corpus", "all", count, length, spread=4)
            self._held = torch.from_numpy(ids).to(self.preset.device)
        return self._held

    def _log(self, watch: losses.Watch) -> None:
        speed = self.step * self.preset.batch * self.preset.window / self.seconds
        left = self.seconds / self.step * (self.recipe.steps - self.step)
        balance = ""
        if watch.routers:
            balance = f", busiest expert {losses.imbalance(watch.counts()):.2f} of the mean"
        self.say(
            f"{self.member}: step {self.step}/{self.recipe.steps}, loss "
            f"{self.loss[-1][1]:.3f}{balance}, {speed:,.0f} tokens/s, {left:.0f} s left"
        )

    def _keep(self) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "load": self.load,
            "master": self.master,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        new = self.checkpoint.with_suffix(".new")
        try:
            torch.save(state, new)
            new.replace(self.checkpoint)
        except (OSError, RuntimeError) as error:  # torch's own of a full disk
            new.unlink(missing_ok=True)
            self.say(f"{self.member}: step {self.step} is not kept ({error}); training goes on")

    def _kept(self) -> dict | None:
        """The state of a training that was cut short; one that cannot be read is removed."""
        self.checkpoint.with_suffix(".new").unlink(missing_ok=True)
        if not self.checkpoint.is_file():
            return None
        try:
            state = torch.load(self.checkpoint, map_location=self.preset.device, weights_only=True)
            if set(state) >= STATE:
                return state
            why = f"it lacks {', '.join(sorted(STATE - set(state)))}"
        except (OSError, RuntimeError, EOFError, ValueError, TypeError, UnpicklingError) as error:
            why = (
                f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
            )
        self.say(f"{self.member}: {self.checkpoint.name} is damaged ({why}); it begins again")
        self.checkpoint.unlink()
        return None

    def _resume(self) -> None:
        if (state := self._kept()) is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            torch._foreach_copy_(self.master, state["master"])
        self.step, self.seconds, self.loss, self.load = (
            state[k] for k in ("step", "seconds", "loss", "load")
        )
        self.say(f"{self.member}: goes on after step {self.step}")

    def _save(self) -> None:
        from transformers.utils import logging

        found = perplexities(self.model.eval(), self.folder / "corpus", self.preset, self.streams)
        with cache_folder.building(self.folder / self.member) as partial:
            logging.disable_progress_bar()
            self.model.save_pretrained(partial)
            for path in (self.folder / "corpus" / "tokenizer").iterdir():
                (partial / path.name).write_bytes(path.read_bytes())
            (partial / "generation_config.json").unlink(missing_ok=True)
            config = json.dumps(hf_config(self.recipe, self.preset), indent=2)
            (partial / "config.json").write_text(config + "\n")
            record = json.dumps({**self._facts(), **found}, indent=1)
            (partial / family.RECORD).write_text(record + "\n")
        self.say(
            f"{self.member}: held-out perplexity {found['perplexity']['all']:.1f} "
            f"(unigram {found['unigram_perplexity']['all']:.1f}); {self.folder / self.member}"
        )

    def _facts(self) -> dict:
        import transformers

        reference = f"{family.PREFIX}{self.preset_name}/{self.member}"
        arch = family.architecture(reference)
        on_gpu = self.preset.device == "cuda"
        return {
            "reference": reference,
            "preset": self.preset_name,
            "member": self.member,
            "architecture": arch.family,
            "parameters": sizes.total_parameters(arch),
            "active_parameters": sizes.active_parameters(arch),
            "seed": self.preset.seed,
            "steps": self.recipe.steps,
            "tokens": self.recipe.steps * self.preset.batch * self.preset.window,
            "seconds": round(self.seconds, 2),
            "device": torch.cuda.get_device_name() if on_gpu else "cpu",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "corpus": json.loads((self.folder / "corpus" / "corpus.json").read_text()),
            "loss": self.loss,
            "load": self.load,
            "balance": self.recipe.balance,
        }


def build(recipe: Recipe, preset: Preset):
    """The untrained model, seeded, in float32 on the preset's device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(preset.seed)
    config = AutoConfig.for_model(**hf_config(recipe, preset))
    # measured on 2 cores, 2048 tokens: grouped_mm 0.87 s, eager 0.91 s, batched_mm 12 s and more
    experts = {"experts_implementation": "grouped_mm"} if recipe.shape.experts else {}
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **experts)
    return model.to(preset.device)


def to_dtype(model, dtype: torch.dtype) -> None:
    """Casts the parameters, but not ERNIE's routers, which it and vLLM hold in float32."""
    for name, parameter in model.named_parameters():
        if model.config.model_type != "ernie4_5_moe" or ".mlp.gate." not in name:
            parameter.data = parameter.data.to(dtype)


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate: linear warm-up, then a cosine to a twentieth."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def load_steps(steps: int) -> list[int]:
    """About nine steps at which the routing is recorded: 0, then each double the one before, and
    the last."""
    return sorted({0, *(round(steps / 2**n) for n in range(LOAD_RECORDS - 1))})


def _groups(parameters: list[torch.Tensor], weight_decay: float) -> list[dict]:
    """Matrices decay; norms do not."""
    return [
        {
            "params": [p for p in parameters if (p.dim() >= 2) == matrices],
            "weight_decay": weight_decay * matrices,
        }
        for matrices in (True, False)
    ]


@contextmanager
def _threads(device: str):
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
