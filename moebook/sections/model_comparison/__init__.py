"""Section 9: nine published models under one workload (Figs 3 and 4), and speed against accuracy
(Figs 17 and 18)."""
