"""Model shapes: published configs (catalog), their parameters, bytes and FLOPs (shapes), and edits
of them (edit)."""
