"""Section 7: how evenly trained MoE models load their experts (Fig 15), and what imbalance costs.

Four parts: what training with and without balancing gives; expert choices per layer and text
domain, of the tiny family and of any checkpoint; perplexity with each expert taken out; throughput
against routing skew, of one layer and end to end."""

from moebook.section import Section

section = Section("07_load_balancing")
