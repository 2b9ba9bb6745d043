"""Section 3: does pruning experts, or every expert's FFN, make an engine faster (Fig 11)?"""
