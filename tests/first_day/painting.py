"""The model team's own work on its model that draws: `python -m tests.first_day.painting WORKS --occurred-at TIME`.

The model and its factory are those of `config.demo.drawing`; a team would have its own. WORKS is the folder that
`tributary works pull` filled. Beside it come `painter/`, `painted.jsonl` and `drawings.jsonl`.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path

import torch

from config.demo import drawing

HELD_OUT_EVERY = 10
SEED = 5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("works", type=Path)
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--occurred-at", required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    read = drawing.Pictures()
    works = [json.loads(line)["id"] for line in (options.works / "works.jsonl").read_text().splitlines()]
    examples = {work: read.item((options.works / work).read_bytes(), None) for work in works}
    trained_on = [work for number, work in enumerate(works) if number % HELD_OUT_EVERY]
    model = drawing.train(
        Path("painter"),
        items=[examples[work] for work in trained_on],
        held_out=[examples[work] for work in works if work not in set(trained_on)],
        training=drawing.Training(steps=300 if options.quick else 1_000),
    )
    lines = [json.dumps({"work": work}) for work in trained_on]
    Path("painted.jsonl").write_text("\n".join(lines) + "\n")
    assert model.sample is not None
    drawn = [
        {
            "external_id": f"icon-{number}",
            "occurred_at": options.occurred_at,
            "prompt": {"text": drawing.prompt_of(example)},
            "output": {
                "media": {"type": "image/png", "base64": base64.b64encode(drawing.as_png(example)).decode()},
            },
        }
        for number, example in enumerate(model.sample(options.generations, SEED), 1)
    ]
    Path("drawings.jsonl").write_text("".join(json.dumps(one) + "\n" for one in drawn))
    print(f"{len(trained_on)} pictures, {len(drawn)} drawings")


if __name__ == "__main__":
    main()
