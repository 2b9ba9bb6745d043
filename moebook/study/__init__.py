"""A study before anything runs: parameters, lengths, points, plans, what they would cost."""
