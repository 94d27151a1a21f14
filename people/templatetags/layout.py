"""Tags for markup that most pages repeat: rows of facts, heads of tables, headers of pages, cards of proposals."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.base import render_value_in_context
from django.template.loader import get_template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from people.operations.proposals import why_not_approve, why_not_reject, why_not_withdraw
from people.presentation import dates
from people.queries.proposals import kind_of

register = template.Library()
BREADCRUMBS = "people/partials/breadcrumbs.html"


@register.simple_tag(takes_context=True)
def fact(context: template.Context, term: str, value: Any, css: str = "") -> SafeString:
    """`{% fact "Reference" entry.reference %}`: a row of a `dl`, its value written as `{{ value }}` is."""
    return _row(term, render_value_in_context(value, context), css)


@register.simple_block_tag
def fact_row(content: str, term: str, css: str = "") -> SafeString:
    """`{% fact_row "Period" %} … {% endfact_row %}`: a row of a `dl`, its value with markup of its own."""
    return _row(term, content.strip(), css)


def _row(term: str, value: str, css: str) -> SafeString:
    kind = format_html(' class="{}"', css) if css else ""
    return format_html("<div>\n<dt>{}</dt>\n<dd{}>{}</dd>\n</div>", term, kind, mark_safe(value))


@register.simple_tag
def table_head(*columns: str) -> SafeString:
    """`{% table_head "Entry" "Kind" "#Lines" %}`: the head of a table; a column of numbers begins with #."""
    cells = format_html_join(
        "\n",
        '<th scope="col"{}>{}</th>',
        ((mark_safe(' class="numeric"') if name.startswith("#") else "", name.removeprefix("#")) for name in columns),
    )
    return format_html("<thead>\n<tr>\n{}\n</tr>\n</thead>", cells)


@register.simple_tag(takes_context=True)
def page_title(context: template.Context, title: Any, lede: Any = "", **crumbs: Any) -> SafeString:
    """`{% page_title "Holds" "Stopped payments." parent="Payees" parent_url=back here="Holds" %}`: a page's header.

    `parent`, `parent_url`, `middle`, `middle_url` and `here` are the breadcrumbs; without `parent` there are none.
    """
    return _header(title, render_value_in_context(lede, context) if lede else "", crumbs, context)


@register.simple_block_tag(takes_context=True)
def page_header(context: template.Context, content: str, title: Any, **crumbs: Any) -> SafeString:
    """`{% page_header "Holds" %} … {% endpage_header %}`: as `page_title`, with a lede that has markup of its own."""
    return _header(title, content.strip(), crumbs, context)


def _header(title: Any, lede: str, crumbs: dict[str, Any], context: template.Context) -> SafeString:
    trail = get_template(BREADCRUMBS).render(crumbs) if crumbs else ""
    paragraph = format_html('<p class="lede">{}</p>', mark_safe(lede)) if lede else ""
    heading = render_value_in_context(title, context)
    return format_html(
        '<header class="page-header">{}\n<h1>{}</h1>\n{}</header>', mark_safe(trail), mark_safe(heading), paragraph
    )


PROPOSAL_TONES = {"proposed": "info", "approved": "good", "rejected": "neutral", "withdrawn": "neutral"}


@register.inclusion_tag("people/partials/proposal_card.html", takes_context=True)
def proposal_card(context: template.Context, proposal: Any) -> dict[str, Any]:
    """`{% proposal_card advance %}`: the people and the state of a proposal, with the form that decides an open one."""
    kind, by, at = kind_of(proposal), context["request"].user, timezone.now()
    is_own = proposal.proposed_by_id == by.pk
    refusal = why_not_approve(kind, proposal, by=by, at=at)
    other = why_not_withdraw(kind, proposal, by=by) if is_own else why_not_reject(kind, proposal, by=by, at=at)
    return {
        "proposal": proposal,
        "kind": kind,
        "url": kind.url(proposal),
        "tone": PROPOSAL_TONES[proposal.state],
        "is_open": proposal.state == "proposed",
        "is_own": is_own,
        "may_approve": refusal is None,
        "may_end": other is None,
        "why_not": refusal,
        "reason": context.get("reason", ""),
        "csrf_token": context.get("csrf_token", ""),
    }


@register.inclusion_tag("people/partials/proposal_facts.html")
def proposal_facts(proposal: Any) -> dict[str, Any]:
    """`{% proposal_facts plan %}`: the proposed facts as a `dl`."""
    return {"facts": kind_of(proposal).facts(proposal)}


@register.simple_tag
def proposal_url(proposal: Any) -> str:
    """`{% proposal_url row %}`: the address of the page that shows a proposal and decides it."""
    return kind_of(proposal).url(proposal)


@register.simple_tag
def proposal_link(proposal: Any, text: str = "Decide") -> SafeString:
    """`{% proposal_link pool %}`: a small button to the page that decides an open proposal."""
    if proposal.state != "proposed":
        return mark_safe("")
    return format_html('<a class="button button-small" href="{}">{}</a>', kind_of(proposal).url(proposal), text)


@register.simple_tag
def proposal_people(proposal: Any) -> SafeString:
    """`{% proposal_people rate %}`: the people and times of a proposal in a sentence, with the way to an open one."""
    decided = ""
    if proposal.decided_by:
        state, at = proposal.get_state_display(), dates.moment_html(proposal.decided_at)
        decided = format_html(" {} by {}, {}.", state, proposal.decided_by, at)
    proposed = format_html("Proposed by {}, {}.", proposal.proposed_by, dates.moment_html(proposal.proposed_at))
    return format_html('<span class="muted small">{}{}</span> {}', proposed, decided, proposal_link(proposal))


@register.filter
def proposal_tone(proposal: Any) -> str:
    """`{{ advance|proposal_tone }}`: the tone of the badge of its state."""
    return PROPOSAL_TONES[proposal.state]
