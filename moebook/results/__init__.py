"""From records to answers: the table and its schema, comparisons, verdicts."""
