"""Section 8: one model on several accelerators over lengths (Fig 16), each against what its
hardware can do."""
