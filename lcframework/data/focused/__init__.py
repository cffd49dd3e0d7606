"""Questions about documents with distractors, in two views (Focused Learning, arXiv 2411.05928)."""
