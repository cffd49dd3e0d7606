"""Oracle top-k: the tokens that the queries really attend to most (as the upper bound of, among
others, section 3 of Quest, https://arxiv.org/abs/2406.10774).

It multiplies every key to choose, so it is no method but a mark: about the best that a choice of so
many tokens per key-value head can do. The reading is not counted as overhead, which favours it.
"""

from torch import Tensor

from lcframework.models.squeezed.methods.selector import Selector, attention_weights, best


class Oracle(Selector):
    """The tokens of the largest attention, averaged over queries that share a choice and over the
    query heads of a key-value head."""

    def choose(self, query: Tensor, valid: Tensor, each: bool) -> Tensor:
        """A choice per query, or one for all."""
        weights = attention_weights(query, valid, self.text.fixed, self.text.scale, each)
        return best(weights, self.count)
