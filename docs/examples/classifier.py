"""Trace the predictions of a classifier of handwritten digits to the people that handed in its training pictures.

Eight people hand in pictures of digits, each of two classes mostly. Run: python -m docs.examples.classifier
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from influence import scorers
from influence.adapters import LoadedModel
from influence.adapters.classifier import Classifier
from influence.scorers import IndexConfig, IndexItem

PEOPLE, ITEMS, QUERIES = 8, 1_000, 200


def new_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 6 * 6, 10))


def main() -> dict[str, float]:
    torch.set_num_threads(1)
    pictures, labels = load_digits(return_X_y=True)
    module = new_module()
    initial = {name: value.clone() for name, value in module.state_dict().items()}
    adapter = Classifier(module, classes=10, shape=(1, 8, 8))

    # Items: a picture with its label, its work (here one picture is one work) and the holder of the work.
    chance = torch.Generator().manual_seed(1)
    favourites = torch.randint(PEOPLE, (10,), generator=chance)
    anybody = torch.randint(PEOPLE, (len(labels),), generator=chance)
    is_typical = torch.rand(len(labels), generator=chance) < 0.8
    holders = torch.where(is_typical, favourites[torch.tensor(labels)], anybody)
    examples = [adapter.example(picture / 16, label) for picture, label in zip(pictures, labels, strict=True)]
    items = [IndexItem(examples[n], work_id=n, holder_id=int(holders[n])) for n in range(ITEMS)]

    # Training, as you do it. Keep the initial checkpoint: with it the index uses the midpoint of the path.
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(150):
        chosen = torch.randint(ITEMS, (64,), generator=chance).tolist()
        loss = -adapter.utility([examples[n] for n in chosen]).values.mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    # A factory of TRIBUTARY_MODEL_FACTORIES returns this: the adapter and the facts of the training.
    state = dict(module.state_dict())
    model = LoadedModel(adapter=adapter, checkpoints=(state,), initial=initial)
    with tempfile.TemporaryDirectory() as directory:
        index = scorers.build(
            Path(directory) / "index", model=model, items=items, config=IndexConfig(k=128, fit_items=500)
        )
        # Predictions on new pictures: the class that the model says, not the one that is right.
        with torch.no_grad():
            values = torch.tensor(pictures[ITEMS : ITEMS + QUERIES] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
            predicted = module(values).argmax(1)
        queries = [adapter.example(value, int(label)) for value, label in zip(values, predicted, strict=True)]
        features = index.embed(queries)
        scores = index.score(features)
        first = [scores.holder_ids[place] for place in scores.specific.argmax(1)]
        own = sum(holder == favourites[label] for holder, label in zip(first, predicted, strict=True)) / QUERIES
        works = index.top_works(features, [[holder] for holder in first], 1)
        alike = sum(
            int(labels[found[holder][0].work_id]) == int(label)
            for found, holder, label in zip(works, first, predicted, strict=True)
        )
    accuracy = float((predicted == torch.tensor(labels[ITEMS : ITEMS + QUERIES])).float().mean())
    figures = {"accuracy": accuracy, "own_person_first": float(own), "top_work_of_that_class": alike / QUERIES}
    print(f"The model is right on {accuracy:.0%} of new pictures.")
    print(f"Whoever handed in most pictures of the predicted class comes first for {own:.0%} of them.")
    print(f"The strongest work of whoever comes first is of that class for {alike / QUERIES:.0%}.")
    return figures


if __name__ == "__main__":
    main()
