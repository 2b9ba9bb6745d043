"""Section 10: what would a configuration do that nobody measured? Predictions with their interval;
measures nothing itself."""

from moebook.section import Section

section = Section("10_what_if")
