"""Semi-MoE."""
