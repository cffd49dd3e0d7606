"""Causal language models of Hugging Face: loading, prompts, models that come as packages."""
