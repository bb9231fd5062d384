"""What is on this machine: local models and saved runs. Knows no mlx."""
