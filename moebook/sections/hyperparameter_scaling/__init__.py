"""Section 1: how throughput moves with FFN dim, expert count, active experts, batch and length
(Figs 5-9)."""
