"""Text: where it comes from, how it becomes chunks of tokens, and which of them are scored."""
