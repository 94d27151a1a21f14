"""The glossary: twelve words that pages use in a sense of their own. One definition for every page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the glossary. `definition` is plain text, one or two sentences."""

    name: str
    definition: str

    @property
    def anchor(self) -> str:
        """Return the part of the glossary's address that leads to this word: "term-base-pool"."""
        return f"term-{self.name.lower().replace(' ', '-')}"


_DEFINITIONS = {
    "attribution": "The measurement of how much each contributor's works influenced one output of a model.",
    "base pool": "The part of the income that is divided once a month, by the general influence of all works on the "
    "model. It takes the plan's base part and every part that attribution cannot credit.",
    "hold": "A stop of payouts to one contributor, with a reason and an end. The money stays the contributor's.",
    "LDS": "Linear datamodeling score: the agreement of our predictions with models that were retrained without some "
    "works. 1 is perfect, 0 is chance.",
    "matured": "Old enough to be paid out. A credit matures some days after its month is closed, by the payout policy.",
    "noise floor": "The smallest influence that we can tell from chance. A share below it goes into the base pool.",
    "plan": "The dated rule that turns a generation into royalties: its price, the platform's part and the base part.",
    "reserve": "A part of the earnings that a contract keeps back until a fixed date, against later corrections.",
    "root": "One number of 64 digits that covers every account of a closed month. A change of any line changes it.",
    "run": "One batch of payouts. One person builds it and another approves it, and then it is sent.",
    "sealed": "Closed for good: the month's root is published, so that no line of it can change unseen.",
    "share": "The part of one output that is credited to one contributor, in parts per billion.",
}
TERMS: dict[str, Term] = {name: Term(name, definition) for name, definition in _DEFINITIONS.items()}
