"""Section 0: models, parameter shares, the source's conflicts and the claims table. Measures
nothing itself."""

from moebook.section import Section

section = Section("00_overview")
