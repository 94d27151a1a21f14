"""Template tags for payouts on a page: minor units with their currency, and a state as a badge in words."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from ledger.money import asset
from ledger.templatetags.amounts import amount
from payouts.models import Payout, PayoutRun
from payouts.queries import words
from payouts.queries.arrivals import Arrival, arrival_of
from payouts.queries.runs import Review, RunSummary
from payouts.rails.amounts import currency_at_stripe
from people.presentation import amounts, codes
from people.presentation.amounts import NOTHING
from people.templatetags import design

register = template.Library()

VOCABULARIES = {
    "run": words.RUN_STATES,
    "payout": words.PAYOUT_STATES,
    "payee": words.PAYOUT_STATES_TO_PAYEE,
    "attempt": words.ATTEMPT_STATES,
    "left_out": words.LEFT_OUT,
    "difference": words.DIFFERENCES,
    "difference_state": words.DIFFERENCE_STATES,
    "webhook": words.WEBHOOK_STATES,
}


@register.filter
def minor(units_minor: int | None, currency: str) -> SafeString | str:
    """`{{ payout.amount_minor|minor:payout.currency }}`: whole cents (yen, fils) as "USD 12.34"."""
    return NOTHING if units_minor is None else amount(units_minor * asset(currency).minor, currency)


@register.filter
def minor_at_stripe(units_minor: int | None, currency: str) -> SafeString | str:
    """`{{ bank.amount_minor|minor_at_stripe:bank.currency }}`: of any currency, also one that the ledger has not."""
    return NOTHING if units_minor is None else amounts.html(units_minor, currency_at_stripe(currency))


@register.filter
def arrival(payout: Payout) -> Arrival | None:
    """`{% with here=payout|arrival %}`: the amount in the currency of the payee's bank; none before the transfer."""
    return arrival_of(payout)


@register.simple_tag
def state(vocabulary: str, name: str) -> SafeString:
    """`{% state "run" run.state %}`: the state's badge."""
    said = words.said(VOCABULARIES[vocabulary], name)
    return design.badge(said.tone, said.label)


@register.simple_tag
def state_sentence(vocabulary: str, name: str) -> str:
    """`{% state_sentence "run" run.state %}`: the meaning of the state."""
    return words.said(VOCABULARIES[vocabulary], name).sentence


@register.simple_tag
def state_label(vocabulary: str, name: str) -> str:
    """`{% state_label "payout" name %}`: the state in words without a badge, for an option of a list."""
    return words.said(VOCABULARIES[vocabulary], name).label


@register.simple_tag
def pause_words(run: PayoutRun) -> str:
    """`{% pause_words run %}`: the reason for the run's pause, and the step that must follow."""
    return words.PAUSES.get(run.pause_code, codes.spaced(run.pause_code).capitalize())


@register.filter
def by_state(summary: RunSummary) -> list[tuple[str, int, int]]:
    """`{{ summary|by_state }}`: (state, payouts, minor units) in the order of a payout's life."""
    return [
        (state, summary.by_state[state], summary.minor_by_state[state])
        for state in words.PAYOUT_STATES
        if state in summary.by_state
    ]


@register.filter
def exceptions(summary: RunSummary) -> str:
    """`{{ summary|exceptions }}`: the payouts that do not go their way, in words; empty where all do."""
    found = [
        (summary.by_state.get(state, 0), words.PAYOUT_STATES[state].label.lower())
        for state in ("refused", "held", "unknown", "bank_failed", "reversed", "partially_reversed")
    ]
    found.append((summary.n_needs_person, "to decide"))
    return ", ".join(f"{n} {label}" for n, label in found if n)


@register.filter
def n_accounts_changed(review: Review) -> int:
    """`{{ review|n_accounts_changed }}`: people with a changed bank or Stripe account, each once."""
    return len({payout.pk for payout in (*review.bank_changed, *review.destination_changed)})
