"""Section 8: one model on several accelerators over lengths (Fig 16), each against what its
hardware can do.

Sweeps
  common     the same points of one small MoE on every device, the CPU among them
  scout      Fig 16's model over input = output length, in each precision the device holds: batch 1
             over all lengths, and `large_batch` over some
  chunked    that model with its attention in chunks, which stops the engine from capturing whole
             decode steps in graphs
  reference  another model, in 16 bits on every GPU
  endpoint   a server elsewhere (a CS-3's, say) at the same lengths; which one, its environment
             variables say

The attention of Llama 4 is chunked at 8192 tokens; up to there all layers attend to all tokens, and
`scout` says so to the engine. Results of other profiles are drawn with one's own (`beside`,
enrich.py), and rooflines of the accelerators in accelerators.yaml."""

from moebook.section import Section

section = Section("08_accelerator_comparison")
