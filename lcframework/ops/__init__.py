"""Operations, each with a slow reference and a fast path."""
