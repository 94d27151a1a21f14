"""Compare the wording of outputs with works, for a closed model of which only outputs are known.

The scores are a similarity, and are called that everywhere: they say nothing about the cause of the output.
Run: python -m docs.examples.black_box
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from config.demo.corpus import read_addresses
from influence import scorers
from influence.adapters import LoadedModel, Utf8
from influence.adapters.encoder import Encoder
from influence.scorers import IndexConfig, IndexItem

AUTHORS = ("Thomas Jefferson", "Abraham Lincoln", "Theodore Roosevelt", "Calvin Coolidge")
CHARACTERS, CHUNKS, OUTPUTS = 600, 80, 20


def main() -> dict[str, float]:
    torch.set_num_threads(1)
    by_author: dict[str, str] = {}
    for address in read_addresses():
        by_author[address.author.name] = by_author.get(address.author.name, "") + address.body
    # Without the model's own tokeniser a token is a byte; a training item is a range of them.
    tokeniser = Utf8()
    cut = [
        [tokeniser.item(by_author[name], n * CHARACTERS, (n + 1) * CHARACTERS) for n in range(CHUNKS + OUTPUTS)]
        for name in AUTHORS
    ]
    items = [
        IndexItem(chunk, work_id=10 * author + n // 20, holder_id=author)
        for author, chunks in enumerate(cut)
        for n, chunk in enumerate(chunks[:CHUNKS])
    ]
    outputs = [(author, chunk) for author, chunks in enumerate(cut) for chunk in chunks[CHUNKS:]]

    # The packaged encoder; any module that gives vectors takes its place, of pictures or sound as well. The checkpoint
    # is not available here, so the name of the model version takes its place.
    version = {"version": torch.tensor(list(b"their-model-2026-10"), dtype=torch.uint8)}
    model = LoadedModel(
        adapter=Encoder.of_wording(tokeniser), checkpoints=(version,), initial=None, tokeniser=tokeniser
    )
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        for attributor in ("encoder", "lexical"):
            index = scorers.build(
                Path(directory) / attributor,
                model=model,
                items=items,
                mean_of=[chunk for _, chunk in outputs],
                config=IndexConfig(attributor=attributor),
            )
            specific = index.score(index.embed([chunk for _, chunk in outputs])).specific
            firsts = [index.holder_ids[place] for place in specific.argmax(1)]
            own = sum(first == author for first, (author, _) in zip(firsts, outputs, strict=True)) / len(outputs)
            figures[f"{attributor}_own_author_first"] = own
            print(f"{attributor}: the author whose wording it is comes first for {own:.0%} (chance 25 %).")
    return figures


if __name__ == "__main__":
    main()
