"""The report schema and one small renderer per format. Knows no mlx and no Textual."""
