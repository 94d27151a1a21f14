"""Language models of Hugging Face: a directory of `save_pretrained`, and a LoRA adapter of peft beside its base.

    config.json, *.safetensors, tokenizer.json   the model that is served, and its tokeniser
    checkpoint-<step>/                           earlier states of the training: members of the ensemble
    initial/                                     the state before the training: midpoint influence, and retraining
    held_out.jsonl                               {"text": ...} a line: texts that were not trained on
    prompts.jsonl                                {"text": ...} a line: prompts of the model's own generations
    retraining.json                              {"epochs", "batch", "learning_rate", "weight_decay"}

For peft the directory has adapter_config.json and adapter_model.safetensors, `base/` the base model with its tokeniser.
An evaluation needs `held_out.jsonl` and a way to retrain: `initial/`, or for peft the base alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from influence.adapters import Example, LoadedModel, UnableToEmbed
from influence.adapters.causal_lm import CausalLM
from influence.factories import INITIAL, UnableToUseFactory, kept_steps, library, need
from influence.gradients.states import own_state
from influence.index.files import digest_of_state

BASE = "base"
HELD_OUT, PROMPTS, RETRAINING = "held_out.jsonl", "prompts.jsonl", "retraining.json"
TEXTS_MAX = 1_000
PROMPT_TOKENS = 8
NEW_TOKENS_MAX = 128
SAMPLE_BATCH = 64


def load_transformers(directory: Path) -> LoadedModel:
    """The factory `transformers`. Raises UnableToUseFactory, or the library's own error."""
    directory = Path(directory)
    need(directory, "config.json")
    module = _pretrained(directory)
    initial = own_state(_pretrained(directory / INITIAL)) if (directory / INITIAL).is_dir() else None
    members = kept_steps(directory)
    return _loaded(
        directory,
        module,
        checkpoints=(*(own_state(_pretrained(member)) for member in members), own_state(module)),
        initial=initial,
        tokeniser=HuggingFace.of(directory),
        start=directory / INITIAL if initial is not None else None,
    )


def load_peft(directory: Path) -> LoadedModel:
    """The factory `peft`: the adapter alone learns. Raises UnableToUseFactory, or the library's own error."""
    directory = Path(directory)
    need(directory, "adapter_config.json", BASE)
    need(directory / BASE, "config.json")
    module = _adapted(directory / BASE, directory)
    initial = _adapted(directory / BASE, directory / INITIAL) if (directory / INITIAL).is_dir() else None
    members = kept_steps(directory)
    return _loaded(
        directory,
        module,
        checkpoints=(*(own_state(_adapted(directory / BASE, member)) for member in members), own_state(module)),
        initial=None if initial is None else own_state(initial),
        tokeniser=HuggingFace.of(directory / BASE),
        start=directory / INITIAL if initial is not None else directory,
    )


def _loaded(
    directory: Path,
    module: nn.Module,
    *,
    checkpoints: tuple[Mapping[str, Tensor], ...],
    initial: Mapping[str, Tensor] | None,
    tokeniser: HuggingFace,
    start: Path | None,
) -> LoadedModel:
    adapter = adapter_of(module)
    held_out = tokeniser.examples(directory / HELD_OUT, adapter.context)
    prompts = tokeniser.examples(directory / PROMPTS, adapter.context) or held_out
    return LoadedModel(
        adapter=adapter,
        checkpoints=checkpoints,
        initial=initial,
        tokeniser=tokeniser,
        retrain=None if start is None else Retraining(str(directory), start.name == INITIAL, settings_of(directory)),
        sample=functools.partial(sample, module, adapter.context, prompts) if prompts else None,
        held_out=(lambda: list(held_out)) if held_out else None,
    )


def adapter_of(module: nn.Module) -> CausalLM:
    """Wrap a model; its position embeddings count as they are, and nothing is left out but a tied head."""
    return CausalLM.of_transformers(module)


def _pretrained(directory: Path) -> nn.Module:
    """Read a causal language model from its own files alone: nothing is downloaded, and no code of it is run."""
    transformers = library("transformers")
    need(directory, "config.json")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    found: nn.Module = model.eval()
    return found


def _adapted(base: Path, adapter: Path) -> nn.Module:
    peft = library("peft")
    need(adapter, "adapter_config.json", "adapter_model.safetensors")
    model = peft.PeftModel.from_pretrained(_pretrained(base), adapter, is_trainable=True, local_files_only=True)
    found: nn.Module = model.eval()
    return found


# --- text -----------------------------------------------------------------------------------------------------------
class HuggingFace:
    """A tokeniser of Hugging Face as the core reads it. Special tokens are not added: items are cut from the works."""

    def __init__(self, tokeniser: Any) -> None:
        self._tokeniser = tokeniser

    @classmethod
    def of(cls, directory: Path) -> HuggingFace:
        """Read the tokeniser of a directory. Raises UnableToUseFactory for one without a tokeniser."""
        transformers = library("transformers")
        if not any((directory / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
            raise UnableToUseFactory(
                "The directory has no tokenizer.json: save the tokeniser beside the model with save_pretrained."
            )
        return cls(
            transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        )

    def encode(self, text: str) -> list[int]:
        return list(self._tokeniser.encode(text, add_special_tokens=False))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokeniser.decode(list(tokens)))

    def item(self, content: str, token_start: int, token_end: int) -> Example:
        return Example(_encoded(self, content)[token_start:token_end])

    def generation(self, prompt: str, output: str, token_ids: Sequence[int] | None = None) -> Example:
        before = self.encode(prompt)
        after = self.encode(output) if token_ids is None else token_ids
        return Example((*before, *after), prompt_tokens=len(before))

    def examples(self, path: Path, context: int) -> list[Example]:
        """Read the texts of a file of JSON lines, each cut to the context; none where there is no such file."""
        return [Example(tuple(self.encode(text)[:context])) for text in _texts(path)] if path.exists() else []


@functools.lru_cache(maxsize=64)
def _encoded(tokeniser: HuggingFace, content: str) -> tuple[int, ...]:
    # A work's items are asked for one after the other, and each would encode the whole of it again.
    return tuple(tokeniser.encode(content))


def _texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if number > TEXTS_MAX:
                return
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError):
                text = None
            if not isinstance(text, str) or not text.strip():
                raise UnableToUseFactory(f'{path.name}, line {number}: it must be {{"text": "..."}}.')
            yield text


# --- own generations, retraining --------------------------------------------------------------------------------------
@torch.no_grad()
def sample(module: nn.Module, context: int, prompts: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Continue the first tokens of prompts, in turn, by sampling from the model."""
    usual = max(min(PROMPT_TOKENS, context // 4), 1)
    length = min(usual, *(len(prompt.tokens) for prompt in prompts))
    new = min(NEW_TOKENS_MAX, context - length)
    chosen = [list(prompts[number % len(prompts)].tokens[:length]) for number in range(count)]
    found: list[Example] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, count, SAMPLE_BATCH):
            given = torch.tensor(chosen[start : start + SAMPLE_BATCH])
            generate: Any = module.generate
            rows = generate(
                input_ids=given,
                attention_mask=torch.ones_like(given),
                do_sample=True,
                top_k=0,
                max_new_tokens=new,
                min_new_tokens=1,
                pad_token_id=0,
                eos_token_id=None,
            )
            found += [Example(tuple(row), prompt_tokens=length) for row in rows.tolist()]
    return found


@dataclass(frozen=True, slots=True)
class Settings:
    """The retraining of an evaluation: AdamW with a constant rate, over the items in a drawn order."""

    epochs: int = 2
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.0


def settings_of(directory: Path) -> Settings:
    """Read retraining.json. Raises UnableToUseFactory for a field that is none."""
    path = directory / RETRAINING
    try:
        settings = Settings(**json.loads(path.read_text())) if path.exists() else Settings()
    except (TypeError, ValueError) as error:
        raise UnableToUseFactory(f"{RETRAINING} takes {', '.join(asdict(Settings()))}: {error}") from error
    if settings.epochs < 1 or settings.batch < 1 or not 0 < settings.learning_rate < 10:
        raise UnableToUseFactory(f"{RETRAINING}: epochs and batch are from 1, the learning rate is above 0.")
    return settings


@dataclass(frozen=True)
class Retraining:
    """Trains on other items from the initial state; where peft has none, from a fresh adapter beside its base."""

    directory: str
    has_initial: bool
    settings: Settings

    @property
    def recipe(self) -> str:
        start = digest_of_state(own_state(self._start(0)))
        return f"{json.dumps(asdict(self.settings), sort_keys=True)} from {start}"

    def _start(self, seed: int) -> nn.Module:
        directory = Path(self.directory)
        is_peft = (directory / "adapter_config.json").exists()
        if not is_peft:
            return _pretrained(directory / INITIAL)
        if self.has_initial:
            return _adapted(directory / BASE, directory / INITIAL)
        peft = library("peft")
        config = peft.PeftConfig.from_pretrained(directory)
        config.inference_mode = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh: nn.Module = peft.get_peft_model(_pretrained(directory / BASE), config)
        return fresh

    def __call__(self, examples: Sequence[Example], seed: int) -> CausalLM:
        module = self._start(0)
        adapter = adapter_of(module)
        settings = self.settings
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(learning, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        chance = torch.Generator().manual_seed(seed)
        module.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for _ in range(settings.epochs):
                order = torch.randperm(len(examples), generator=chance)
                for rows in torch.split(order, settings.batch):
                    try:
                        loss = -adapter.utility([examples[row] for row in rows.tolist()]).values.mean()
                    except UnableToEmbed as reason:
                        raise UnableToUseFactory(f"An item cannot be trained on: {reason}") from reason
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(learning, 1.0)
                    optimiser.step()
        module.eval()
        return adapter
