"""Focused Learning (arXiv 2411.05928): two views of a prompt, what is computed on them, LoRA."""
