"""Figures, tables, widgets and reports drawn from results tables; nothing here measures."""
