"""The kinds of proposals: each app registers its own, and every page, list, mail and verb reads this registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.db.models import Q, QuerySet, Value
from django.urls import reverse

from people import inbox
from people.models import Proposal, User

P = TypeVar("P", bound=Proposal)

FINANCE = ("finance_maker", "finance_checker")
READERS = (*FINANCE, "auditor", "admin")
WITH_COMPLIANCE = (*READERS, "compliance")
Facts = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalKind(Generic[P]):
    """One kind of proposal: its people, its checks, its effect and its words.

    `apply` has the effect of an approval, in the transaction and under the lock of the row. It returns the columns that
    the decision fixes, such as `entry_id`, and may raise any refusal. `lock` takes the locks that come before the row.
    """

    key: str
    model: type[P]
    # "manual entry", as in "You proposed this manual entry"; the heading of several; the subject of the mail.
    name: str
    heading: str
    mail: str
    proposers: tuple[str, ...] = FINANCE
    approvers: tuple[str, ...] = ("finance_checker",)
    readers: tuple[str, ...] = READERS
    apply: Callable[[P, User, datetime], Mapping[str, Any]]
    lock: Callable[[P], None] = lambda row: None
    # The sentence that keeps a person with an interest in the row from approving it; "" for others.
    conflict: Callable[[P, User], str] = lambda row, by: ""
    # A person outside of staff with a right of their own to propose and withdraw, such as an owner of the contributor.
    asks: Callable[[P, User], bool] = lambda row, by: False
    # Raised where the row may not be proposed, with `equal` for the constraint that finds an equal open one.
    refusal: type[Exception]
    unique: str
    equal: Callable[[P], str] = lambda row: (
        "The same is proposed already and waits for somebody to decide it. Should it be meant twice, name another "
        "reference."
    )
    # Deciding takes a second factor of the last minutes; rejecting takes all that approving takes.
    needs_fresh_factor: bool = False
    rejected_as_approved: bool = False
    title: Callable[[P], str] = str
    summary: Callable[[P], str]
    facts: Callable[[P], Facts] = lambda row: []
    # A partial with more of the row than facts; it gets the row as `proposal`.
    template: str = ""
    # The effect of an approval: before it, on the page, and after it, as a message.
    effect: str
    approved: Callable[[P], str]
    # The address of the page of the object, where it has one, and the address and name of the list of its kind.
    page: Callable[[P], str] = lambda row: ""
    parent: tuple[str, str]
    # The subject of the audit line, the fields of the row that it keeps, and the facts in force before an approval.
    subject: Callable[[P], str]
    fields: tuple[str, ...]
    before: Callable[[P], dict[str, Any]] = lambda row: {}
    related: tuple[str, ...] = ()
    # Chooses some rows of a model, where not all are decided by the same roles.
    where: Q | None = None

    def rows(self) -> QuerySet[P]:
        """Select the rows of this kind, with their people."""
        found = self.model._default_manager.filter(self.where or Q(), proposed_by__isnull=False)
        return found.select_related("proposed_by", "decided_by", *self.related)

    def headline(self, row: P) -> str:
        """Return the title with a capital letter."""
        said = self.title(row)
        return said[:1].upper() + said[1:]

    def url(self, row: P) -> str:
        """Return the address of the page that shows the row and decides it."""
        return reverse("people:proposal", args=[self.key, row.pk])

    def open_work(self) -> inbox.Kind:
        """Describe the open rows for the inbox "Needs attention" and its mails."""
        return inbox.Kind(
            name=f"{self.key}_proposed",
            heading=self.heading,
            mail=self.mail,
            roles=self.approvers,
            rows=lambda at: self.rows().filter(state="proposed").order_by("pk"),
            item=self._item,
            covers={self.model._meta.label: frozenset({"proposed"})},
        )

    def _item(self, row: P) -> inbox.OpenItem:
        return inbox.OpenItem(
            subject=f"{self.key}_proposed:{row.pk}",
            title=self.headline(row),
            words=self.summary(row),
            url=self.url(row),
            since=row.proposed_at,
            person=str(row.proposed_by),
            barred=frozenset({row.proposed_by_id}),
        )


_KINDS: dict[str, ProposalKind[Any]] = {}


def register(*kinds: ProposalKind[Any]) -> None:
    """Add kinds to the registry. An app calls this when it is ready."""
    _KINDS.update({kind.key: kind for kind in kinds})


def kinds() -> list[ProposalKind[Any]]:
    """List every kind, in the order of registration."""
    return list(_KINDS.values())


def kind_named(key: str) -> ProposalKind[Any] | None:
    """Return the kind of a key; None for an unknown one."""
    return _KINDS.get(key)


def kind_of(row: P) -> ProposalKind[P]:
    """Return the kind of a stored row. Raises LookupError for a model that no app registered."""
    found = [kind for kind in _KINDS.values() if kind.model is type(row)]
    for kind in found:
        if len(found) == 1 or kind.rows().filter(pk=row.pk).exists():
            return kind
    raise LookupError(f"{type(row).__name__} is no registered kind of proposal.")


def listed(chosen: Iterable[ProposalKind[Any]], *, state: str = "") -> QuerySet[Any, tuple[str, int, datetime]]:
    """List (key, number, time of the proposal) of the rows of some kinds, the newest first; of one state or of all."""
    parts = [
        kind.rows()
        .filter(**({"state": state} if state else {}))
        .order_by()
        .annotate(kind_key=Value(kind.key))
        .values_list("kind_key", "pk", "proposed_at")
        for kind in chosen
    ]
    found: QuerySet[Any, tuple[str, int, datetime]] = parts[0].union(*parts[1:], all=True)
    return found.order_by("-proposed_at", "kind_key", "-pk")


def rows_of(entries: Iterable[tuple[str, int, datetime]]) -> list[tuple[ProposalKind[Any], Any]]:
    """Load the rows of some entries of the list, one query a kind, in the order of the entries."""
    wanted = list(entries)
    loaded = {
        key: kind.rows().in_bulk([number for name, number, _ in wanted if name == key])
        for key, kind in _KINDS.items()
        if any(name == key for name, _, _ in wanted)
    }
    return [(_KINDS[key], loaded[key][number]) for key, number, _ in wanted if number in loaded[key]]
