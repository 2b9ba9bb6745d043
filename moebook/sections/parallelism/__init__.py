"""Section 5: what several devices gain (Fig 13), with tensor, expert and pipeline parallelism.

Three sweeps:
  modes   the engine itself over G devices, as the profile has them; what it cannot do is a row with
          the reason
  shards  what one rank of each mode and G computes, on one device (models/one_rank.py). With the
          time that ranks take to communicate (enrich.py) it gives what G devices would do, also
          where there are none. Stages of a pipeline are run with the whole batch, and with B/G of
          it, which fills all stages
  check   a model whose shards are written in another model class, whole in both

Letters: B batch, S tokens, L layers, K experts per token, G devices."""

from moebook.section import Section

section = Section("05_parallelism")
