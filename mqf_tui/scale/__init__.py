"""The same sweep over several processes or machines, with MLX's own distributed engine."""
