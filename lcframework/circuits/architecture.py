"""A network's structure as far as its circuits depend on it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attention:
    """Softmax attention.

    Attributes:
        heads: query heads.
        kv_heads: key and value heads; fewer than `heads` is grouped-query attention.
        head_dim: width of one head.
        rotary: whether positions enter by RoPE.
        causal: whether a token sees only earlier ones.
        window: tokens seen at most, None for all.
        qkv_bias: on the three projections.
        out_bias: on the output projection.
        qk_norm: RMSNorm on each head's queries and keys.
        soft_cap: c tanh(x / c) on the scores.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rotary: bool = True
    causal: bool = True
    window: int | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    soft_cap: bool = False


@dataclass(frozen=True)
class Mamba:
    """A selective state-space mixer.

    Attributes:
        inner: channels E.
        states: per channel.
        taps: of the short convolution.
        rank: of the step projection.
        directions: 2 for BiMamba, whose in and out projections are shared.
        projection_bias: of in and out projection.
        conv_bias: of the convolution.
    """

    inner: int
    states: int
    taps: int
    rank: int
    directions: int = 1
    projection_bias: bool = False
    conv_bias: bool = True


@dataclass(frozen=True)
class FeedForward:
    """The network after the mixer.

    Attributes:
        width: of the hidden layer, of one expert.
        activation: its name.
        gated: whether a second map multiplies the activation.
        bias: on all maps.
        experts: 0 for none.
        chosen: experts per token.
        renormalise: whether the chosen experts' weights are scaled to sum 1.
    """

    width: int
    activation: str
    gated: bool
    bias: bool = False
    experts: int = 0
    chosen: int = 0
    renormalise: bool = False


@dataclass(frozen=True)
class Block:
    """One layer: x + mixer(norm(x)), then x + feed_forward(norm(x)).

    Attributes:
        mixer: None where it is not known (the architecture's `unknown` names it).
        feed_forward: None for none.
        norm: "rms" or "layer".
        sandwich: whether each branch is normalised before it is added, too.
    """

    mixer: Attention | Mamba | None
    feed_forward: FeedForward | None = None
    norm: str = "rms"
    sandwich: bool = False


@dataclass(frozen=True)
class Architecture:
    """A whole network.

    Attributes:
        name: from the file.
        family: its model type.
        width: d.
        blocks: (how many, block) in order.
        vocabulary: rows of the embedding.
        tied: whether the head is the embedding's table.
        max_length: tokens the configuration allows, None if it sets no bound.
        learned_positions: rows of a table of positions, 0 for none.
        embedding_scale: whether embeddings are multiplied by a constant.
        token_dropout: ESM's rescaling by the share of masked tokens.
        embedding_norm: LayerNorm on the embeddings.
        final_norm: before the head.
        head: "linear", "esm" or "none".
        final_soft_cap: on the logits.
        dtype: precision the weights are stored in, if the file says.
        notes: what was recognised and changes no depth.
        unknown: (part, why) of what was not understood.
    """

    name: str
    family: str
    width: int
    blocks: tuple[tuple[int, Block], ...]
    vocabulary: int
    tied: bool
    max_length: int | None
    learned_positions: int = 0
    embedding_scale: bool = False
    token_dropout: bool = False
    embedding_norm: bool = False
    final_norm: bool = True
    head: str = "linear"
    final_soft_cap: bool = False
    dtype: str | None = None
    notes: tuple[str, ...] = ()
    unknown: tuple[tuple[str, str], ...] = field(default=())

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return sum(count for count, _ in self.blocks)

    @property
    def widest(self) -> int:
        """The longest sum over channels."""
        sizes = [self.width]
        for _, block in self.blocks:
            if isinstance(block.mixer, Attention):
                sizes.append(block.mixer.heads * block.mixer.head_dim)
            elif isinstance(block.mixer, Mamba):
                sizes.append(block.mixer.inner)
            if block.feed_forward:
                sizes.append(block.feed_forward.width)
        return max(sizes)

    @property
    def kind(self) -> str:
        """ "transformer", "mamba" or "unknown": which theorem is about it."""
        mixers = {type(block.mixer) for _, block in self.blocks}
        if mixers == {Attention}:
            return "transformer"
        return "mamba" if mixers == {Mamba} else "unknown"
