"""Section 7: how evenly trained MoE models load their experts (Fig 15), and what imbalance
costs."""
