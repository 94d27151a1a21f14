"""Tags for markup that most pages repeat: rows of facts, heads of tables, headers of pages."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.base import render_value_in_context
from django.template.loader import get_template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

register = template.Library()
BREADCRUMBS = "people/partials/breadcrumbs.html"


@register.simple_tag(takes_context=True)
def fact(context: template.Context, term: str, value: Any, css: str = "") -> SafeString:
    """`{% fact "Reference" entry.reference %}`: a row of a `dl`, its value written as `{{ value }}` is."""
    return _row(term, render_value_in_context(value, context), css)


@register.simple_block_tag
def fact_row(content: str, term: str, css: str = "") -> SafeString:
    """`{% fact_row "Period" %} … {% endfact_row %}`: a row of a `dl` whose value has markup of its own."""
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
