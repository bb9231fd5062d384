"""The Hugging Face hub: searching it, and fetching models into its cache."""
