"""Prose that reads a figure: sentences of Markdown whose every number is computed from the table it reads.

A module per section, named like it in moebook/sections. Each function takes a summary (one row per point) and returns
text; where rows are missing, the text says so. `workbook.say` finds them.
"""
