"""Section 9: nine published models under one workload (Figs 3 and 4), and speed against accuracy
(Figs 17 and 18).

Three parts: language models in each format; the language parts of vision-language models, whose
image tokens are part of the prompt; one model with its routers and with imposed uniform routing,
which is what imposing costs. Dummy weights of DeepSeek's models do not route near uniformly on a
GPU, so routing is imposed as uniform, alike on all models of a comparison.

A model that does not fit a device in a format is a row `oom`; in `depth_formats` it is extrapolated
from fewer layers."""

from moebook.section import Section

section = Section("09_model_comparison")
