"""How the rule of a claim has changed: each rule that was, until when, why it changed, and the
verdict that it gave. Kept in each section's history.yaml, claim -> list, oldest first."""

from dataclasses import dataclass, field

import yaml


@dataclass(frozen=True)
class RuleChange:
    """until: the day (ISO) that the rule was replaced. rule: in words. after_data: whether it was
    changed with results at hand. verdicts: profile -> verdict and effect that it gave last."""

    until: str
    rule: str
    why: str
    after_data: bool
    verdicts: dict[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """When the rule was replaced and what verdict it gave where; the card has the rest."""
        after = ", after data" if self.after_data else ""
        told = ", ".join(f"{on}: {v.partition(',')[0]}" for on, v in self.verdicts.items())
        return f"changed {self.until}{after}; before {told or 'none'}"

    def __str__(self) -> str:
        after = ", after data" if self.after_data else ""
        told = "; ".join(f"{profile}: {verdict}" for profile, verdict in self.verdicts.items())
        return (
            f"until {self.until}{after}: {self.rule}. Changed: {self.why}. "
            f"Verdicts: {told or 'none'}"
        )


def read(text: str) -> dict[str, tuple[RuleChange, ...]]:
    """The changes of each claim of a history.yaml."""
    return {
        name: tuple(RuleChange(**{**one, "until": str(one["until"])}) for one in changes)
        for name, changes in (yaml.safe_load(text) or {}).items()
    }
