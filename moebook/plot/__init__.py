"""Figures: style, lines, heat maps and what they share. Pure: a table in, a Figure out."""
