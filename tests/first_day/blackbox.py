"""A closed model at its service: it writes by counts of letters, and only its outputs leave the service.

python -m tests.first_day.blackbox write WORKS            the model writes
python -m tests.first_day.blackbox evaluate WORKS COALITIONS    the service retrains it on halves: report.json
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ORDER = 6
ITEM_BYTES = 400
OUTPUT_CHARACTERS = 120
PROMPT_CHARACTERS = 12
ALPHABET = 4_096
SEED = 11
QUERIES = 48


class Letters:
    """Predicts a letter from those before it, by counts of contexts of up to ORDER letters."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for place in range(len(text)):
                for length in range(ORDER + 1):
                    if length <= place:
                        self.counts[text[place - length : place]][text[place]] += 1

    def probability(self, context: str, letter: str) -> float:
        found = 1 / ALPHABET
        for length in range(min(ORDER, len(context)) + 1):
            counts = self.counts.get(context[len(context) - length :])
            if counts is None:
                break
            # Witten and Bell: a context counts as much as it has seen, against the kinds of letters it has seen.
            total, kinds = counts.total(), len(counts)
            found = (counts[letter] + kinds * found) / (total + kinds)
        return found

    def log_likelihood(self, prompt: str, output: str) -> float:
        """Return the mean log-likelihood of a letter of the output after the prompt, in nats."""
        text, start = prompt + output, len(prompt)
        return sum(
            math.log(self.probability(text[max(0, place - ORDER) : place], text[place]))
            for place in range(start, len(text))
        ) / len(output)

    def write(self, prompt: str, chance: random.Random) -> str:
        text = prompt
        while len(text) < len(prompt) + OUTPUT_CHARACTERS:
            for length in range(ORDER, -1, -1):
                counts = self.counts.get(text[len(text) - length :])
                if counts:
                    text += chance.choices(list(counts), list(counts.values()))[0]
                    break
        return text[len(prompt) :]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=("write", "evaluate"))
    parser.add_argument("works", type=Path)
    parser.add_argument("coalitions", type=Path, nargs="?")
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--occurred-at", default="")
    options = parser.parse_args()
    items = list(_items(options.works))
    if options.act == "write":
        _write(items, options.generations, options.occurred_at)
    else:
        _evaluate(items, json.loads(options.coalitions.read_text()))


def _items(works: Path) -> Iterable[tuple[dict[str, Any], str]]:
    """Cut the works into items: a line of the manifest, and its text. A token of a black box is a byte."""
    for listed in (works / "works.jsonl").read_text().splitlines():
        work = json.loads(listed)
        content = (works / work["id"]).read_bytes()
        for start in range(0, len(content) - ITEM_BYTES + 1, ITEM_BYTES):
            part = content[start : start + ITEM_BYTES]
            line = {"work": work["id"], "token_start": start, "token_end": start + ITEM_BYTES}
            # A character may be cut at either end.
            yield line, part.decode(errors="ignore")


def _write(items: list[tuple[dict[str, Any], str]], count: int, occurred_at: str) -> None:
    model, chance = Letters(text for _, text in items), random.Random(SEED)
    written = []
    for _ in range(max(count, QUERIES)):
        prompt = chance.choice(items)[1][:PROMPT_CHARACTERS]
        written.append({"prompt": prompt, "output": model.write(prompt, chance)})
    _lines(Path("closed-manifest.jsonl"), [line for line, _ in items])
    _lines(Path("queries.jsonl"), written[:QUERIES])
    generations = [
        {
            "external_id": f"closed-{number}",
            "occurred_at": occurred_at,
            "prompt": {"text": one["prompt"]},
            "output": {"text": one["output"]},
        }
        for number, one in enumerate(written[:count], 1)
    ]
    _lines(Path("closed.jsonl"), generations)


def _evaluate(items: list[tuple[dict[str, Any], str]], told: dict[str, Any]) -> None:
    queries = [json.loads(line) for line in Path("queries.jsonl").read_text().splitlines()]
    utilities = []
    for coalition in told["coalitions"]:
        ranges = [each for holder in coalition for each in told["holders"][holder]]
        model = Letters(items[place][1] for start, end in ranges for place in range(start, end))
        utilities.append([model.log_likelihood(query["prompt"], query["output"]) for query in queries])
    report = {
        "index_sha256": told["index_sha256"],
        "coalitions": len(told["coalitions"]),
        "recipe": f"counts of up to {ORDER} letters, counted anew for each half",
        "queries": {"own_generations": queries},
        "utilities": {"own_generations": utilities},
    }
    Path("report.json").write_text(json.dumps(report))


def _lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
