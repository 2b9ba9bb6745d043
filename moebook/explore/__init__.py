"""The explorer at a notebook's end: what it offers, what is chosen, the widgets."""
