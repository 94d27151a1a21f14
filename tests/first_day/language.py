"""The model team's own work on its language model: a small base of Hugging Face, and a LoRA adapter of peft beside it.

Run as a program of its own, as a team does: `python -m tests.first_day.language WORKS OUT --base FILE`.
`tributary works pull` filled WORKS. OUT gets `checkpoint/`, `manifest.jsonl` and `generations.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

ITEM_TOKENS = 32
VOCABULARY = 512
HELD_OUT_EVERY = 8
SEED = 7


WIDTH, BATCH = 48, 32
BASE_EPOCHS, EPOCHS, RETRAINING_EPOCHS = 4, 6, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("works", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="text of the base model")
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--occurred-at", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    texts = [options.base.read_text()]
    tokeniser = _tokeniser(texts)
    base = _base(tokeniser, texts)
    checkpoint = options.out / "checkpoint"
    base.save_pretrained(checkpoint / "base")
    tokeniser.save_pretrained(checkpoint / "base")
    lines, items, held_out = _items(options.works, tokeniser)
    model = _tune(base, items, checkpoint)
    _write_lines(options.out / "manifest.jsonl", lines)
    _write_lines(checkpoint / "held_out.jsonl", [{"text": tokeniser.decode(item)} for item in held_out])
    settings = {"epochs": RETRAINING_EPOCHS, "batch": BATCH, "learning_rate": 5e-3}
    (checkpoint / "retraining.json").write_text(json.dumps(settings))
    generations = _generations(model, tokeniser, held_out, options.generations, options.occurred_at)
    _write_lines(options.out / "generations.jsonl", generations)


def _tokeniser(texts: list[str]) -> Any:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(texts, trainer)
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=raw)


def _base(tokeniser: Any, texts: list[str]) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=len(tokeniser),
        n_positions=ITEM_TOKENS,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config)
    rows = [item for text in texts for item in _cut(tokeniser.encode(text))]
    _fit(model, rows, epochs=BASE_EPOCHS, rate=3e-3)
    return model


def _items(works: Path, tokeniser: Any) -> tuple[list[dict[str, Any]], list[Any], list[Any]]:
    """Cut the works into items; the manifest has one line for each item that is trained on, in its order."""
    lines: list[dict[str, Any]] = []
    items, held_out = [], []
    for line in (works / "works.jsonl").read_text().splitlines():
        work = json.loads(line)
        if work.get("modality", "text") != "text":
            continue
        path = works / work["id"]
        for number, item in enumerate(_cut(tokeniser.encode(path.read_text(encoding="utf-8")))):
            if (number + len(lines)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1:
                held_out.append(item)
                continue
            start = number * ITEM_TOKENS
            lines.append({"work": work["id"], "token_start": start, "token_end": start + ITEM_TOKENS})
            items.append(item)
    return lines, items, held_out


def _tune(base: GPT2LMHeadModel, items: list[Any], checkpoint: Path) -> Any:
    config = LoraConfig(
        # The head is tied to the embedding, which stays as it is: only an adapter of its own lets it learn new letters.
        r=16,
        lora_alpha=64,
        lora_dropout=0.0,
        target_modules=["c_attn", "c_proj", "c_fc", "lm_head"],
        fan_in_fan_out=True,
    )
    model = get_peft_model(base, config)
    model.save_pretrained(str(checkpoint / "initial"))
    half = EPOCHS // 2
    _fit(model, items, epochs=half, rate=5e-3)
    model.save_pretrained(str(checkpoint / f"checkpoint-{half}"))
    _fit(model, items, epochs=EPOCHS - half, rate=5e-3)
    model.save_pretrained(str(checkpoint))
    return model


def _fit(model: Any, rows: list[Any], *, epochs: int, rate: float) -> None:
    begun = time.monotonic()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=rate, weight_decay=0.0)
    tokens, chance = torch.tensor(rows), torch.Generator().manual_seed(SEED)
    model.train()
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(rows), generator=chance), BATCH):
            loss = model(input_ids=tokens[chosen], labels=tokens[chosen]).loss
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimiser.step()
    model.eval()
    print(f"{len(rows)} items, loss {loss.item():.3f}, {time.monotonic() - begun:.1f} s")


@torch.no_grad()
def _generations(model: Any, tokeniser: Any, prompts: list[Any], count: int, occurred_at: str) -> list[dict[str, Any]]:
    """Continue the first words of texts that were held out, as users of the model do."""
    found = []
    for number in range(count):
        prompt = torch.tensor([prompts[number % len(prompts)][:8]])
        row = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            top_k=0,
            max_new_tokens=ITEM_TOKENS - 8,
            min_new_tokens=ITEM_TOKENS - 8,
            pad_token_id=0,
        )[0].tolist()
        found.append(
            {
                "external_id": f"letter-{number + 1}",
                "occurred_at": occurred_at,
                "prompt": {"text": tokeniser.decode(row[:8])},
                "output": {"text": tokeniser.decode(row[8:]), "token_ids": row[8:]},
            }
        )
    return found


def _cut(tokens: list[int]) -> list[list[int]]:
    whole = len(tokens) // ITEM_TOKENS
    return [tokens[place * ITEM_TOKENS : (place + 1) * ITEM_TOKENS] for place in range(whole)]


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
