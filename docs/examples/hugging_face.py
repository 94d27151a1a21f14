"""A GPT-2 of Hugging Face's transformers, trained on real speeches: whose addresses taught it a passage?

Small, randomly initialised and with a tokeniser of its own, so that nothing is downloaded. Run:
python -m docs.examples.hugging_face
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from config.demo.corpus import read_addresses
from config.demo.model import Tokeniser
from influence import scorers
from influence.adapters import LoadedModel
from influence.adapters.causal_lm import CausalLM
from influence.scorers import IndexConfig, IndexItem

AUTHORS = ("Thomas Jefferson", "Abraham Lincoln", "Theodore Roosevelt", "Calvin Coolidge")
CHUNK, CHUNKS, HELD_OUT, STEPS = 64, 120, 25, 250


def main() -> dict[str, float]:
    torch.set_num_threads(1)
    by_author: dict[str, str] = {}
    for address in read_addresses():
        by_author[address.author.name] = by_author.get(address.author.name, "") + address.body
    texts = [by_author[name] for name in AUTHORS]
    # Any object with encode, decode, item and generation; one of Hugging Face's is wrapped in a few lines.
    tokeniser = Tokeniser.train(text[: 400 * CHUNK] for text in texts)
    cut = [[tokeniser.item(text, n * CHUNK, (n + 1) * CHUNK) for n in range(CHUNKS + HELD_OUT)] for text in texts]

    torch.manual_seed(0)
    module = GPT2LMHeadModel(
        GPT2Config(vocab_size=520, n_positions=CHUNK, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    )
    # The head's weight is the embedding's, so that `of_transformers` leaves it out; attention and MLP are traced.
    adapter = CausalLM.of_transformers(module)
    initial = {name: value.clone() for name, value in module.state_dict().items()}

    items = [
        IndexItem(cut[author][n], work_id=10 * author + n // 12, holder_id=author)
        for author in range(len(AUTHORS))
        for n in range(CHUNKS)
    ]
    held_out = [(author, chunk) for author in range(len(AUTHORS)) for chunk in cut[author][CHUNKS:]]

    chance = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.01)
    losses = []
    for _ in range(STEPS):
        chosen = torch.randint(len(items), (16,), generator=chance).tolist()
        loss = -adapter.utility([items[n].example for n in chosen]).values.mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))

    model = LoadedModel(adapter=adapter, checkpoints=(dict(module.state_dict()),), initial=initial, tokeniser=tokeniser)
    figures = {"first_loss": losses[0], "last_loss": sum(losses[-20:]) / 20}
    with tempfile.TemporaryDirectory() as directory:
        for attributor in ("midpoint", "hybrid"):
            index = scorers.build(
                Path(directory) / attributor,
                model=model,
                items=items,
                mean_of=[chunk for _, chunk in held_out],
                config=IndexConfig(attributor=attributor, k=128),
            )
            specific = index.score(index.embed([chunk for _, chunk in held_out])).specific
            hits = [
                index.holder_ids[row.argmax()] == author for row, (author, _) in zip(specific, held_out, strict=True)
            ]
            figures[f"{attributor}_own_author_first"] = sum(hits) / len(hits)
    print(f"Trained from {figures['first_loss']:.2f} to {figures['last_loss']:.2f} nats a token.")
    for attributor in ("midpoint", "hybrid"):
        hit = figures[f"{attributor}_own_author_first"]
        print(f"{attributor}: a passage's own author comes first for {hit:.0%} of what was held out (chance 25 %).")
    return figures


if __name__ == "__main__":
    main()
