"""Which chunks of a document a question needs: chunkers, retrievers, evidence recall."""
