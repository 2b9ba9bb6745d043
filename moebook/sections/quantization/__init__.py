"""Section 2: what a number format gains (Fig 10), what it saves of memory, and what it costs in
quality."""
