"""The measurement: loading, scoring and statistics. Knows no terminal and no disk layout."""
