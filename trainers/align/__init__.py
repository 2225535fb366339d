"""The loop without labels, its configuration, and what each part of it does."""
