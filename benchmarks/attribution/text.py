"""The text setting: a GPT of 170,000 parameters trained on docstrings of eighteen Python packages.

Every package is a contributor. Two controls are planted beside them: an exact copy of one contributor, and one of
random tokens. The packages are those that requirements.txt pins, so that the text is the same anywhere.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import io
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import sentencepiece
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from influence.adapters import Example
from influence.adapters.causal_lm import CausalLM
from influence.evaluation.retraining import Task
from influence.index.files import digest_of_state
from influence.index.reader import IndexItem

PACKAGES = (
    "torch", "numpy", "scipy", "django", "celery", "redis", "stripe", "rich", "reportlab", "PIL", "networkx", "sympy",
    "jinja2", "gunicorn", "datasketch", "urllib3", "pygments", "structlog",
)  # fmt: skip
COPIED = 3
COPIER = len(PACKAGES)
NOISE = len(PACKAGES) + 1
CONTRIBUTORS = len(PACKAGES) + 2
VOCABULARY = 512
CONTEXT = 65
NOISE_ITEMS = 60
HELD_OUT_EACH = 5
DOCSTRING_CHARACTERS_MIN = 200


@dataclass(frozen=True)
class Corpus:
    items: tuple[IndexItem, ...]
    """A work each; holder_id is the contributor's number."""
    texts: tuple[str, ...]
    """Of each item, for lexical methods."""
    held_out: tuple[Example, ...]
    tokeniser: sentencepiece.SentencePieceProcessor

    @property
    def examples(self) -> tuple[Example, ...]:
        return tuple(item.example for item in self.items)

    @property
    def owners(self) -> list[int]:
        return [item.holder_id for item in self.items]

    @cached_property
    def digest(self) -> str:
        told = json.dumps([(item.example.tokens, item.holder_id) for item in self.items])
        return hashlib.sha256(told.encode()).hexdigest()

    def text_of(self, example: Example) -> str:
        return str(self.tokeniser.decode(list(example.tokens)))


def docstrings(package: str) -> Iterator[str]:
    """Of every module, class and function, in order of path and line; read from source, nothing is imported."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed: its docstrings are a contributor's works.")
    root = Path(found.origin).parent
    for path in sorted(root.rglob("*.py")):
        if "test" in str(path.relative_to(root)):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text is not None and len(text) >= DOCSTRING_CHARACTERS_MIN:
                    yield inspect.cleandoc(text)


def read_corpus(cache: Path) -> Corpus:
    """Thirty to eighty chunks of 65 tokens a contributor, different numbers, so that pro rata has something to say."""
    path = cache / "docstrings.json"
    if not path.exists():
        texts = {}
        for package in PACKAGES:
            whole = ""
            for text in docstrings(package):
                whole += text + "\n\n"
                if len(whole) > 40_000:
                    break
            texts[package] = whole
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(texts))
    texts = json.loads(path.read_text())
    tokeniser = _tokeniser(cache, texts)
    counts = [30 + (number * 7 * 3) % 51 for number in range(len(PACKAGES))]
    chance = random.Random(0)
    entries: list[tuple[tuple[int, ...], int]] = []
    held_out = []
    for number, package in enumerate(PACKAGES):
        tokens = tokeniser.encode(texts[package])
        chunks = [tuple(tokens[start : start + CONTEXT]) for start in range(0, len(tokens) - CONTEXT, CONTEXT)]
        chance.shuffle(chunks)
        entries += [(chunk, number) for chunk in chunks[: counts[number]]]
        held_out += [Example(chunk) for chunk in chunks[counts[number] : counts[number] + HELD_OUT_EACH]]
    entries += [(chunk, COPIER) for chunk, number in entries if number == COPIED]
    entries += [(tuple(chance.randrange(3, VOCABULARY) for _ in range(CONTEXT)), NOISE) for _ in range(NOISE_ITEMS)]
    items = tuple(IndexItem(Example(chunk), work_id=place, holder_id=who) for place, (chunk, who) in enumerate(entries))
    decoded = tuple(str(tokeniser.decode(list(chunk))) for chunk, _ in entries)
    return Corpus(items, decoded, tuple(held_out), tokeniser)


def _tokeniser(cache: Path, texts: Mapping[str, str]) -> sentencepiece.SentencePieceProcessor:
    path = cache / "docstrings.model"
    if not path.exists():
        written = io.BytesIO()
        lines = [line for text in texts.values() for line in text.splitlines() if line]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            model_type="bpe",
            vocab_size=VOCABULARY,
            character_coverage=0.995,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        path.write_bytes(written.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())


# --- the model ------------------------------------------------------------------------------------------------------
class Block(nn.Module):
    """Attention spelled out, because not every peer can differentiate the fused kernel an example at a time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.before_mlp = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.qkv(self.before_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future, -torch.inf).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, length, width))
        mixed: Tensor = x + self.narrow(F.gelu(self.widen(self.before_mlp(x))))
        return mixed


class TinyGPT(nn.Module):
    def __init__(self, width: int = 64, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.last_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.last_norm(x))
        return logits


def adapter_of(module: nn.Module) -> CausalLM:
    """Positions are read as a weight, which no hook sees."""
    return CausalLM(
        module, vocabulary=VOCABULARY, context=CONTEXT, also_traced=("embedding", "norm"), left_out=("positions",)
    )


@functools.cache
def initial_state(seed: int = 0) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    module = TinyGPT()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.05, generator=chance)
            elif name.endswith("bias"):
                parameter.zero_()
    return {name: value.clone() for name, value in module.state_dict().items()}


@dataclass(frozen=True)
class Trainer:
    """The training of the model and of every retraining alike: the same epochs from the same initial checkpoint; the
    seed decides the order of items."""

    epochs: int = 8
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    keep: tuple[int, ...] = ()

    @property
    def recipe(self) -> str:
        settings = [self.epochs, self.batch, self.learning_rate, self.weight_decay]
        return f"docstrings {settings} {digest_of_state(initial_state())}"

    def __call__(self, examples: Sequence[Example], seed: int) -> CausalLM:
        return self.train(examples, seed)[0]

    def train(self, examples: Sequence[Example], seed: int) -> tuple[CausalLM, list[dict[str, Tensor]]]:
        """The trained model, and its parameters after each epoch of `keep`."""
        module = TinyGPT()
        module.load_state_dict(initial_state())
        tokens = torch.tensor([example.tokens for example in examples])
        optimiser = torch.optim.AdamW(
            module.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, betas=(0.9, 0.99)
        )
        chance = torch.Generator().manual_seed(seed)
        steps = self.epochs * math.ceil(len(tokens) / self.batch)
        step, kept = 0, []
        for epoch in range(1, self.epochs + 1):
            for chosen in torch.split(torch.randperm(len(tokens), generator=chance), self.batch):
                for group in optimiser.param_groups:
                    warm = min(1.0, (step + 1) / 30)
                    group["lr"] = self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
                batch = tokens[chosen]
                loss = F.cross_entropy(module(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimiser.step()
                step += 1
            if epoch in self.keep:
                kept.append({name: value.clone() for name, value in module.state_dict().items()})
        return adapter_of(module.eval()), kept


def trained(corpus: Corpus, cache: Path, *, seed: int = 0) -> list[dict[str, Tensor]]:
    """The model's parameters after a third, two thirds and all of the training, kept in the cache."""
    trainer = Trainer(keep=(3, 6, 8))
    path = cache / f"docstrings-model-{seed}.pt"
    if not path.exists():
        torch.save((corpus.digest, trainer.recipe, trainer.train(corpus.examples, seed)[1]), path)
    digest, recipe, states = torch.load(path)
    assert (digest, recipe) == (corpus.digest, trainer.recipe), f"{path} is of another corpus: remove it"
    return list(states)


def module_of(state: Mapping[str, Tensor]) -> TinyGPT:
    module = TinyGPT()
    module.load_state_dict(dict(state))
    return module.eval()


@torch.no_grad()
def own_generations(
    module: nn.Module, corpus: Corpus, count: int, *, seed: int, temperature: float = 0.8
) -> list[Example]:
    """Continuations of the first eight tokens of training items; the prompt is read, not scored."""
    chance = torch.Generator().manual_seed(seed)
    real = [item.example.tokens[:8] for item in corpus.items if item.holder_id < len(PACKAGES)]
    chosen = torch.randperm(len(real), generator=chance)[:count].tolist()
    written = torch.tensor([real[place] for place in chosen])
    while written.shape[1] < CONTEXT:
        logits = module(written)[:, -1] / temperature
        written = torch.cat([written, torch.multinomial(logits.softmax(-1), 1, generator=chance)], 1)
    return [Example(tuple(row), prompt_tokens=8) for row in written.tolist()]


def coalitions_of(count: int, *, seed: int = 0) -> list[tuple[int, ...]]:
    """Different halves of the contributors; more of them begin with the same ones."""
    chance = random.Random(seed)
    chosen: list[tuple[int, ...]] = []
    while len(chosen) < count:
        half = tuple(sorted(chance.sample(range(CONTRIBUTORS), CONTRIBUTORS // 2)))
        if half not in chosen:
            chosen.append(half)
    return chosen


def item_halves(items: int, count: int, *, seed: int = 1) -> list[tuple[int, ...]]:
    chance = random.Random(seed)
    return [tuple(sorted(chance.sample(range(items), items // 2))) for _ in range(count)]


def retraining(corpus: Corpus, queries: Sequence[Example], subsets: Sequence[tuple[int, ...]], *, seed: int) -> Task:
    """Item positions of each subset, trained from the same initial checkpoint as the model, in another order."""
    seeds = tuple(range(seed, seed + len(subsets)))
    return Task(Trainer(), corpus.examples, tuple(queries), tuple(subsets), seeds)
