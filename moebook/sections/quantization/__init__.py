"""Section 2: what a number format gains (Fig 10), what it saves of memory, and what it costs in
quality.

Three parts: two formats of each model over batch and, at the largest batch, over length; all
formats on one model; the perplexity of a trained checkpoint in each format. A format that the
machine lacks becomes a row with the engine's own reason."""

from moebook.section import Section

section = Section("02_quantization")
