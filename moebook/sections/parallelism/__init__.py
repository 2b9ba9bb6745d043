"""Section 5: what several devices gain (Fig 13), with tensor, expert and pipeline parallelism."""
