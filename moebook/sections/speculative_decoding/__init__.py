"""Section 4: what speculative decoding costs and gains for a MoE target (Fig 12).

Cost: a target with each draft, acceptance set in the engine's rejection sampler, over length, draft
tokens and batch, and the target without drafts. Acceptance: a trained tiny target with its drafts
and n-gram lookup, over temperature and text. What a step costs over what it yields is
the speed-up (drafts.py)."""

from moebook.section import Section

section = Section("04_speculative_decoding")
