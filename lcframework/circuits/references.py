"""What is cited, and how much of it could be read.

`read` is "abstract" where the statement quoted stands in the abstract or opening that was read,
"quoted" where another text that was read states it, "not read" where neither could be: such a
statement is repeated from general knowledge and must be checked before it is relied on.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One publication.

    Attributes:
        who: short authors and year.
        title: the title.
        where: arXiv number, journal or report.
        states: what it is cited for.
        read: see above.
    """

    who: str
    title: str
    where: str
    states: str
    read: str

    @property
    def short(self) -> str:
        """For tables."""
        return f"{self.who}, {self.where}"


REFERENCES = {
    "rope": Reference(
        "Chen et al. 2024",
        "Circuit Complexity Bounds for RoPE-based Transformer Architecture",
        "arXiv 2411.07602, EMNLP 2025",
        "unless TC0 = NC1, RoPE transformers with poly(n) precision, O(1) layers and d <= O(n) "
        "solve neither arithmetic formula evaluation nor the Boolean formula value problem",
        "abstract",
    ),
    "chiang": Reference(
        "Chiang 2025",
        "Transformers in DLOGTIME-Uniform TC0",
        "TMLR 01/2025, arXiv 2409.13629",
        "softmax transformers with O(poly(n)) bits of precision are in DLOGTIME-uniform TC0; Dyck "
        "languages are recognised by softmax transformers (quoting Yang and Chiang 2024)",
        "abstract",
    ),
    "mamba": Reference(
        "Chen et al. 2024b",
        "The Computational Limits of State-Space Models and Mamba via the Lens of Circuit "
        "Complexity",
        "arXiv 2412.06148, CPAL 2025",
        "Mamba with poly(n) precision and constant depth is in DLOGTIME-uniform TC0; unless TC0 = "
        "NC1 it solves no arithmetic formula, Boolean formula or permutation composition problem",
        "abstract",
    ),
    "illusion": Reference(
        "Merrill, Petty and Sabharwal 2024",
        "The Illusion of State in State-Space Models",
        "ICML 2024, arXiv 2404.08819",
        "S4, Mamba and related models are within TC0 and cannot solve permutation composition; "
        "whether they express easier state tracking is left open",
        "abstract",
    ),
    "cot-circuits": Reference(
        "Li et al. 2024",
        "Chain of Thought Empowers Transformers to Solve Inherently Serial Problems",
        "ICLR 2024, arXiv 2402.12875",
        "constant-bit precision puts constant-depth transformers in AC0; with T steps of chain of "
        "thought they solve what Boolean circuits of size T solve",
        "abstract",
    ),
    "cot-power": Reference(
        "Merrill and Sabharwal 2024",
        "The Expressive Power of Transformers with Chain of Thought",
        "ICLR 2024, arXiv 2310.07923",
        "logarithmically many decoding steps add little, linearly many add all regular languages, "
        "polynomially many (generalised pre-norm) give exactly P",
        "abstract",
    ),
    "cot-arithmetic": Reference(
        "Feng et al. 2023",
        "Towards Revealing the Mystery behind Chain of Thought: A Theoretical Perspective",
        "NeurIPS 2023, arXiv 2305.15408",
        "constant-size autoregressive transformers solve arithmetic by writing down the derivation",
        "abstract",
    ),
    "log-depth": Reference(
        "Merrill and Sabharwal 2025",
        "A Little Depth Goes a Long Way: The Expressive Power of Log-Depth Transformers",
        "NeurIPS 2025, arXiv 2503.03961",
        "highly uniform transformers of depth Theta(log n) recognise regular languages and solve "
        "graph connectivity",
        "abstract",
    ),
    "padding": Reference(
        "Merrill and Sabharwal 2025b",
        "Exact Expressive Power of Transformers with Padding",
        "NeurIPS 2025, arXiv 2505.18948",
        "averaging-hard-attention, masked-pre-norm transformers with polynomial padding recognise "
        "exactly FO-uniform TC0, with O(log^d n) looping exactly FO-uniform TC^d, with "
        "polylogarithmic looping exactly FO-uniform NC",
        "abstract",
    ),
    "fixed-precision-padding": Reference(
        "Svete et al. 2025",
        "The Exact Expressive Power of Fixed-Precision Looped Padded Transformers",
        "2025",
        "with fixed precision, O(log N) width, polynomial padding and log^d N depth: exactly "
        "L-uniform AC^d",
        "abstract",
    ),
    "shortcuts": Reference(
        "Liu et al. 2023",
        "Transformers Learn Shortcuts to Automata",
        "ICLR 2023, arXiv 2210.10749",
        "O(log T) depth simulates every automaton, O(1) depth every automaton whose groups are "
        "solvable",
        "abstract",
    ),
    "parity-uniform": Reference(
        "Kozachinskiy and Steifer 2025",
        "A completely uniform transformer for parity",
        "arXiv 2501.02535",
        "a 3-layer constant-dimension transformer recognises parity, no part of it depending on "
        "the length",
        "abstract",
    ),
    "parity-layers": Reference(
        "Kozachinskiy, Steifer and Wałęga 2026",
        "Parity, Sensitivity, and Transformers",
        "arXiv 2602.05896",
        "a 4-layer softmax transformer computes parity with length-independent positions, no layer "
        "norm, with or without causal masking; one layer cannot",
        "abstract",
    ),
    "counting": Reference(
        "Sälzer et al. 2026",
        "The Counting Power of Transformers",
        "arXiv 2505.11199",
        "softmax transformers express counting properties, linear ones (C-RASP) and beyond",
        "abstract",
    ),
    "ssm-languages": Reference(
        "Sarrof, Veitsman and Hahn 2024",
        "The Expressive Capacity of State Space Models: A Formal Language Perspective",
        "NeurIPS 2024, arXiv 2405.17394",
        "state-space models implement star-free state tracking and bounded hierarchical structure; "
        "a design choice (non-negative gates) limits them",
        "abstract",
    ),
    "negative-eigenvalues": Reference(
        "Grazzi et al. 2025",
        "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues",
        "ICLR 2025, arXiv 2411.12537",
        "finite-precision linear RNNs with only positive eigenvalues cannot solve parity; products "
        "of identity minus outer products with eigenvalues in [-1, 1] give any regular language",
        "abstract",
    ),
    "buss": Reference(
        "Buss 1987",
        "The Boolean formula value problem is in ALOGTIME",
        "STOC 1987",
        "the Boolean formula value problem is NC1-complete",
        "quoted",
    ),
    "formulas": Reference(
        "Buss, Cook, Gupta and Ramachandran 1992",
        "An optimal parallel algorithm for formula evaluation",
        "SIAM J. Comput. 21",
        "arithmetic formula evaluation over a fixed finite ring is in NC1",
        "not read",
    ),
    "barrington": Reference(
        "Barrington 1989",
        "Bounded-width polynomial-size branching programs recognize exactly those languages in NC1",
        "JCSS 38",
        "the word problem of a non-solvable group (S5, A5) is NC1-complete",
        "quoted",
    ),
    "hab": Reference(
        "Hesse, Allender and Barrington 2002",
        "Uniform constant-depth threshold circuits for division and iterated multiplication",
        "JCSS 65",
        "division and iterated multiplication are in DLOGTIME-uniform TC0",
        "abstract",
    ),
    "reif-tate": Reference(
        "Reif and Tate 1992",
        "On threshold circuits and polynomial computation",
        "SIAM J. Comput. 21",
        "sin, cos, exp, sqrt and log to error 2^-n^c by threshold circuits of constant depth and "
        "polynomial size",
        "quoted",
    ),
    "siu": Reference(
        "Siu and Roychowdhury 1993",
        "Optimal depth neural networks for multiplication and related problems",
        "NIPS 5",
        "iterated addition in depth 2, multiplication, division and powering in depth 3, multiple "
        "product in depth 4, with polynomial size and weights (integers)",
        "abstract",
    ),
    "goldmann": Reference(
        "Goldmann and Karpinski 1992",
        "Simulating threshold circuits by majority circuits",
        "ICSI TR-92-080",
        "a depth-d threshold circuit becomes, uniformly, a majority circuit of depth d + 1",
        "abstract",
    ),
    "parity-ac0": Reference(
        "Furst, Saxe and Sipser 1984; Håstad 1986",
        "Parity, circuits, and the polynomial-time hierarchy",
        "Math. Systems Theory 17",
        "parity is not in AC0",
        "not read",
    ),
    "connectivity": Reference(
        "Savitch 1970; Immerman 1999",
        "Descriptive complexity (textbook)",
        "Springer",
        "directed reachability is NL-complete, undirected reachability L-complete (Reingold 2008)",
        "not read",
    ),
    "ladner": Reference(
        "Ladner 1975",
        "The circuit value problem is log space complete for P",
        "SIGACT News 7",
        "the circuit value problem is P-complete",
        "not read",
    ),
    "here": Reference(
        "lcframework",
        "counted here, level by level",
        "lcframework.circuits",
        "extensions that no paper at hand covers",
        "derived",
    ),
}
