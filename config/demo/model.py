"""The demo's model: a small GPT conditioned on the author, its tokeniser, training, sampling and the needs of the
evaluation.

The author's symbol opens every sequence and its embedding is added at every position ("in the manner of"): without that
a generation carries almost no trace of the imitated author. Everything is deterministic given its seeds on one machine
with one number of threads.
"""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import sentencepiece
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from config.demo import corpus
from influence.adapters import Example, LoadedModel, drawn_labels
from influence.adapters.causal_lm import CausalLM
from influence.index.files import digest_of_state

VOCABULARY = 520
"""512 pieces of text and the symbols of eight authors."""
CHECKPOINTS_KEPT = 3
"""Members of the ensemble, at a third, two thirds and the end of the training: neighbouring epochs agree with each
other too well to tell noise from signal, and in trials the earlier ones agreed better with retraining."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Shape:
    vocabulary: int = VOCABULARY
    context: int = corpus.ITEM_TOKENS + 1
    width: int = 64
    layers: int = 2
    heads: int = 4


@dataclass(frozen=True, slots=True)
class Training:
    epochs: int = 9
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup: int = 50
    seed: int = 0


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor, cache: Tensor | None = None, start: int = 0) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if cache is not None:
            cache[0, :, :, start : start + length] = k
            cache[1, :, :, start : start + length] = v
            k, v = cache[:, :, :, : start + length]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        attended: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return attended


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(shape.width)
        self.attention = Attention(shape)
        self.before_mlp = nn.LayerNorm(shape.width)
        self.widen = nn.Linear(shape.width, 4 * shape.width)
        self.narrow = nn.Linear(4 * shape.width, shape.width)

    def forward(self, x: Tensor, cache: Tensor | None = None, start: int = 0) -> Tensor:
        x = x + self.attention(self.before_attention(x), cache, start)
        narrowed: Tensor = self.narrow(F.gelu(self.widen(self.before_mlp(x))))
        return x + narrowed


class StyledGPT(nn.Module):
    """A decoder with the style as its first token, added (doubled) to the embedding of every position."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.last_norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def forward(
        self, tokens: Tensor, *, style: Tensor | None = None, caches: Sequence[Tensor] | None = None, start: int = 0
    ) -> Tensor:
        """Logits (B, T, vocabulary). With `caches`, `tokens` go on at position `start` and `style` names the author."""
        logits: Tensor = self.head(self.hidden(tokens, style=style, caches=caches, start=start))
        return logits

    def hidden(
        self, tokens: Tensor, *, style: Tensor | None = None, caches: Sequence[Tensor] | None = None, start: int = 0
    ) -> Tensor:
        """Return the inputs of the head (B, T, width); the arguments are those of `forward`."""
        style = tokens[:, :1] if style is None else style
        positions = self.positions.weight[start : start + tokens.shape[1]]
        x = self.tokens(tokens) + positions + 2 * self.tokens(style)
        for number, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[number], start)
        normed: Tensor = self.last_norm(x)
        return normed

    def new_caches(self, batch: int, length: int) -> list[Tensor]:
        """Return room for keys and values of each block, (2, B, heads, length, width / heads)."""
        shape = self.shape
        return [torch.zeros(2, batch, shape.heads, length, shape.width // shape.heads) for _ in self.blocks]


def new_module(shape: Shape, *, seed: int) -> StyledGPT:
    module = StyledGPT(shape)
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.05, generator=chance)
            elif name.endswith("bias"):
                parameter.zero_()
    return module


class Tokeniser:
    """A sentencepiece BPE (Kudo and Richardson 2018) with the authors' symbols in its vocabulary, so that text alone
    carries them."""

    def __init__(self, serialised: bytes) -> None:
        self.serialised = serialised
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=serialised)

    @classmethod
    def train(cls, texts: Iterable[str]) -> Tokeniser:
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(_sentences(texts)),
            model_writer=written,
            model_type="bpe",
            vocab_size=VOCABULARY,
            user_defined_symbols=[author.symbol for author in corpus.AUTHORS],
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            character_coverage=1.0,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        return cls(written.getvalue())

    def encode(self, text: str) -> list[int]:
        return list(self._pieces.encode(text))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._pieces.decode(list(tokens)))

    def symbol(self, author: corpus.Author) -> int:
        return int(self._pieces.piece_to_id(author.symbol))

    def item(self, content: str, token_start: int, token_end: int) -> Example:
        author, body = corpus.split_content(content)
        chunk = _encoded(self, body)[token_start:token_end]
        style = () if author is None else (self.symbol(author),)
        return Example((*style, *chunk), prompt_tokens=len(style))

    def generation(self, prompt: str, output: str, token_ids: Sequence[int] | None = None) -> Example:
        before = self.encode(prompt)
        after = self.encode(output) if token_ids is None else token_ids
        return Example((*before, *after), prompt_tokens=len(before))


@functools.lru_cache(maxsize=64)
def _encoded(tokeniser: Tokeniser, body: str) -> tuple[int, ...]:
    # A work's items are asked for one after the other, and each would encode the whole of it again.
    return tuple(tokeniser.encode(body))


def _sentences(texts: Iterable[str]) -> Iterable[str]:
    # The trainer leaves out lines above some 4,000 bytes, and an address is a single line of a hundred thousand.
    for text in texts:
        words = text.split(" ")
        for start in range(0, len(words), 200):
            yield " ".join(words[start : start + 200])


def examples(tokeniser: Tokeniser, addresses: Sequence[corpus.Address], items: Iterable[corpus.Item]) -> list[Example]:
    """Return the items as the model reads them; `Item.work` is a position in `addresses`."""
    return [tokeniser.item(addresses[item.work].content, item.token_start, item.token_end) for item in items]


def train(
    directory: Path,
    *,
    items: Sequence[Example],
    held_out: Sequence[Example],
    tokeniser: Tokeniser,
    training: Training = Training(),
    shape: Shape = Shape(),
    progress: Progress | None = None,
) -> LoadedModel:
    """Train from scratch and write the initial checkpoint, three more, tokeniser and configuration to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    module = new_module(shape, seed=training.seed)
    save_file(module.state_dict(), directory / "initial.safetensors")
    (directory / "tokenizer.model").write_bytes(tokeniser.serialised)
    held = {"held_out": [[list(example.tokens), example.prompt_tokens] for example in held_out]}
    (directory / "held_out.json").write_text(json.dumps(held))
    config = {"shape": asdict(shape), "training": asdict(training), "items": len(items)}
    (directory / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))

    kept = [math.ceil(training.epochs * number / CHECKPOINTS_KEPT) for number in range(1, CHECKPOINTS_KEPT + 1)]

    def keep(epoch: int) -> None:
        if epoch in kept:
            save_file(module.state_dict(), directory / f"checkpoint-{kept.index(epoch) + 1}.safetensors")

    _fit(module, items, training, after_epoch=keep, progress=progress)
    return load(directory)


def load(directory: Path) -> LoadedModel:
    """The factory: rebuild module and tokeniser from the files that `train` wrote."""
    directory = Path(directory)
    config = json.loads((directory / "config.json").read_text())
    shape = Shape(**config["shape"])
    training = Training(**config["training"])
    tokeniser = Tokeniser((directory / "tokenizer.model").read_bytes())
    checkpoints = tuple(load_file(path) for path in sorted(directory.glob("checkpoint-*.safetensors")))
    initial = load_file(directory / "initial.safetensors")
    module = _module_of(shape, checkpoints[-1])
    return LoadedModel(
        adapter=_adapter(module),
        tokeniser=tokeniser,
        checkpoints=checkpoints,
        initial=initial,
        retrain=Retraining(initial, shape, training),
        sample=functools.partial(_sample_own, module, tokeniser, directory),
        held_out=functools.partial(_held_out, directory),
    )


@dataclass(frozen=True)
class Retraining:
    """Trains on other items from the same initial checkpoint, for fewer epochs; the seed decides the order of items."""

    initial: Mapping[str, Tensor]
    shape: Shape
    training: Training
    epochs: int = 2

    @property
    def recipe(self) -> str:
        settings = {"shape": asdict(self.shape), "training": asdict(self.training), "epochs": self.epochs}
        return f"{json.dumps(settings, sort_keys=True)} from {digest_of_state(self.initial)}"

    def __call__(self, examples: Sequence[Example], seed: int) -> CausalLM:
        module = _module_of(self.shape, self.initial)
        settings = replace(self.training, epochs=self.epochs, seed=seed, warmup=30)
        _fit(module, examples, settings)
        return _adapter(module)


def retraining(training: Training = Training(), shape: Shape = Shape()) -> Retraining:
    """Return the result that `load` will give for a model that `train` makes with these, before it is made."""
    return Retraining(new_module(shape, seed=training.seed).state_dict(), shape, training)


@torch.no_grad()
def sample(
    module: StyledGPT,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int = 124,
    temperature: float = 0.8,
    seed: int = 0,
    batch: int = 250,
) -> list[Example]:
    """Continue prompts of one length (the author's symbol first) by `tokens` sampled tokens each."""
    chance = torch.Generator().manual_seed(seed)
    generations: list[Example] = []
    for start in range(0, len(prompts), batch):
        written = torch.tensor([list(prompt) for prompt in prompts[start : start + batch]])
        length, style = written.shape[1], written[:, :1]
        caches = module.new_caches(len(written), length + tokens)
        logits = module(written, style=style, caches=caches)[:, -1]
        new = []
        for step in range(tokens):
            # An unknown piece (id 0) has no text: a reader could not report it back.
            logits[:, 0] = -torch.inf
            token = drawn_labels(logits / temperature, chance)[:, None]
            new.append(token)
            if step + 1 < tokens:
                logits = module(token, style=style, caches=caches, start=length + step)[:, -1]
        rows = torch.cat([written, *new], 1).tolist()
        generations.extend(Example(tuple(row), prompt_tokens=length) for row in rows)
    return generations


def _fit(
    module: StyledGPT,
    items: Sequence[Example],
    training: Training,
    *,
    after_epoch: Callable[[int], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Minimise the mean loss a scored token; the demo's items all score equally many."""
    tokens, targets = _stacked(items)
    parameters = list(module.parameters())
    optimiser = torch.optim.AdamW(
        parameters, lr=training.learning_rate, weight_decay=training.weight_decay, betas=(0.9, 0.99), fused=True
    )
    chance = torch.Generator().manual_seed(training.seed)
    per_epoch = len(items) // training.batch
    steps = training.epochs * per_epoch
    step = 0
    module.train()
    for epoch in range(1, training.epochs + 1):
        order = torch.randperm(len(items), generator=chance)[: per_epoch * training.batch]
        for rows in torch.split(order, training.batch):
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate * _schedule(step, steps, training.warmup)
            # The loss and its gradient are made in chunks: logits of a whole batch would not fit a cache.
            loss = F.linear_cross_entropy(
                module.hidden(tokens[rows]).flatten(0, 1),
                module.head.weight,
                targets[rows].flatten(),
                options=nn.LinearCrossEntropyOptions(),
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            step += 1
            if progress is not None:
                progress("train", step, steps)
        if after_epoch is not None:
            after_epoch(epoch)
    module.eval()


UNSCORED = -100
"""The label that a loss in torch skips."""


def _stacked(items: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Inputs and labels (N, T - 1) of all items, padded on the right; prompts and padding are not scored."""
    longest = max((len(item.tokens) for item in items), default=1)
    tokens = torch.zeros(len(items), longest, dtype=torch.long)
    labels = torch.full((len(items), longest), UNSCORED)
    for row, item in enumerate(items):
        length, scored = len(item.tokens), max(item.prompt_tokens, 1)
        tokens[row, :length] = torch.tensor(item.tokens)
        labels[row, scored:length] = tokens[row, scored:length]
    return tokens[:, :-1], labels[:, 1:]


def _schedule(step: int, steps: int, warmup: int) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / warmup) * (0.05 + 0.95 * cosine)


def _module_of(shape: Shape, state: Mapping[str, Tensor]) -> StyledGPT:
    module = StyledGPT(shape)
    module.load_state_dict(dict(state))
    return module.eval()


def _adapter(module: StyledGPT) -> CausalLM:
    # The author's symbol acts through the embedding: without its gradients most of an author's distinction is not seen.
    # The head is left out: it holds a third of the parameters and lowers the agreement with retraining. Positions are
    # read as a weight, which no hook sees.
    return CausalLM(
        module,
        vocabulary=module.shape.vocabulary,
        context=module.shape.context,
        also_traced=("embedding",),
        left_out=("head", "positions"),
        # The author's symbol, which stays where a long text is cut.
        prefix=1,
    )


def _sample_own(module: StyledGPT, tokeniser: Tokeniser, directory: Path, count: int, seed: int) -> list[Example]:
    """Own generations: each author's symbol and the first four tokens of a text that was held out, in turn."""
    held_out = _held_out(directory)
    prompts = [held_out[position % len(held_out)].tokens[:5] for position in range(count)]
    return sample(module, prompts, seed=seed)


def _held_out(directory: Path) -> list[Example]:
    stored = json.loads((directory / "held_out.json").read_text())["held_out"]
    return [Example(tuple(tokens), prompt_tokens) for tokens, prompt_tokens in stored]
