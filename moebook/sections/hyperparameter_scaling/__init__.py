"""Section 1: how throughput moves with FFN dim, expert count, active experts, batch and length
(Figs 5-9).

Two parts: a grid over one model's skeleton (FFN x experts x active experts), and sweeps of batch
against active experts and against length over two published models. Cells that exceed the device
are run with fewer layers and extrapolated; cells that exceed `capacity_limit_gb` stay out of
memory."""

from moebook.section import Section

section = Section("01_hyperparameter_scaling")
