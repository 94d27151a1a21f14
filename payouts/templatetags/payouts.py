"""How payouts are written on a page: minor units with their currency, and a state as a badge in words."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from contributors.templatetags import design
from contributors.templatetags.figures import NOTHING
from ledger.money import asset
from ledger.templatetags.amounts import amount
from payouts import words

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


@register.simple_tag
def state(vocabulary: str, name: str) -> SafeString:
    """`{% state "run" run.state %}`: the state's badge."""
    said = words.said(VOCABULARIES[vocabulary], name)
    return design.badge(said.tone, said.label)


@register.simple_tag
def state_sentence(vocabulary: str, name: str) -> str:
    """`{% state_sentence "run" run.state %}`: what the state means."""
    return words.said(VOCABULARIES[vocabulary], name).sentence


@register.filter
def spaced(name: str) -> str:
    """`{{ code|spaced }}`: a code in readable words, the first one with a capital letter."""
    return words.spaced(name).capitalize()
