"""Section 3: does pruning experts, or every expert's FFN, make an engine faster (Fig 11)?

Each model whole and pruned by each ratio, inter-expert (fewer experts) and intra-expert (narrower
experts), over active experts. Dummy weights: speed depends on shapes, not on which experts went.
What it costs in quality is read on a trained model of the tiny family, pruned by each criterion of
`models/pruning/saliency.py`."""

from moebook.section import Section

section = Section("03_pruning")
