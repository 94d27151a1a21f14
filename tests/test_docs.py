"""Docs: links lead somewhere, and the architecture page holds every state machine as the code has it."""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.db.models import Model

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """List the fragments that the headings of a page can be linked by."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        path, _, fragment = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target), link


def machine(model: type[Model]) -> str:
    """Write a model's transitions as the row of the architecture page."""
    transitions: dict[str, set[str]] = model.TRANSITIONS  # type: ignore[attr-defined]
    states = list(transitions)
    steps = [
        f"{state} → {', '.join(sorted(following, key=states.index))}"
        for state, following in transitions.items()
        if following
    ]
    return f"| `{model._meta.label}` | {'; '.join(steps)} |"


def test_the_architecture_page_holds_every_state_machine() -> None:
    models = sorted((m for m in apps.get_models() if hasattr(m, "TRANSITIONS")), key=lambda m: m._meta.label)
    wanted = "\n".join(machine(model) for model in models)
    found = "\n".join(re.findall(r"^\| `\w+\.\w+` \| .*→.* \|$", ARCHITECTURE.read_text(), re.MULTILINE))
    assert found == wanted, f"the table of state machines in {ARCHITECTURE.name} must read:\n{wanted}"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {page.name for page in folder.glob("*.md")} - {"README.md"}
