"""Models: what a folder is, whether it can be trusted and measured, and how it comes into memory."""
