"""The small parts of the design system that carry markup of their own: icons, badges, links of the navigation."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

# Drawn on a 16-unit square with the current colour.
ICONS = {
    "check": '<path d="M3 8.5l3.2 3.2L13 5"/>',
    "cross": '<path d="M4 4l8 8M12 4l-8 8"/>',
    "warning": '<path d="M8 2.2L14.6 13.6H1.4z"/><path d="M8 6.4v3.4M8 11.8v.1"/>',
    "clock": '<circle cx="8" cy="8" r="6"/><path d="M8 4.5V8l2.4 1.6"/>',
    "info": '<circle cx="8" cy="8" r="6.2"/><path d="M8 7.2v4M8 4.8v.1"/>',
    "dash": '<path d="M4 8h8"/>',
    "lock": '<rect x="3" y="7" width="10" height="7" rx="1.5"/><path d="M5 7V5a3 3 0 016 0v2"/>',
    "search": '<circle cx="7" cy="7" r="4.5"/><path d="M10.5 10.5L14 14"/>',
    "upload": '<path d="M8 11V2.5M4.5 6L8 2.5 11.5 6M2.5 11v2.5h11V11"/>',
    "download": '<path d="M8 2.5V11M4.5 7.5L8 11l3.5-3.5M2.5 11v2.5h11V11"/>',
    "next": '<path d="M3 8h10M9 4l4 4-4 4"/>',
    "text": '<path d="M4 1.8h5.5L13 5.3v8.9H4zM6.2 8h4.6M6.2 10.8h4.6"/>',
    "audio": '<path d="M6 12.2V3l7-1.4v9.2"/><circle cx="4.2" cy="12.2" r="1.8"/><circle cx="11.2" cy="10.8" r="1.8"/>',
    "video": '<rect x="1.8" y="3" width="12.4" height="10" rx="1"/><path d="M6.6 5.8v4.4L10.4 8z"/>',
    "image": '<rect x="2" y="2.5" width="12" height="11" rx="1"/><circle cx="5.6" cy="6" r="1.2"/>'
    '<path d="M2.5 12l3.6-3.6 2.3 2.2L11 7.5l3 3.2"/>',
    "key": '<circle cx="5" cy="11" r="3"/><path d="M7.2 8.8L13.5 2.5M11 5l2 2"/>',
    "river": '<path d="M8 1.5v13M2.5 2c0 4.5 5.5 3.5 5.5 8.5M13.5 2c0 3-5.5 2.5-5.5 6"/>',
}
ALERTS = {"error": ("alert-bad", "warning"), "warning": ("alert-warn", "warning"), "success": ("alert-good", "check")}
TONE_ICONS = {"good": "check", "warn": "clock", "bad": "cross", "info": "info", "neutral": "dash"}


@register.simple_tag
def icon(name: str) -> SafeString:
    """`{% icon "check" %}`: decoration only; the words beside it carry the meaning."""
    return format_html(
        '<svg class="icon" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.7" '
        'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">{}</svg>',
        mark_safe(ICONS[name]),
    )


@register.simple_tag
def badge(tone: str, text: object, icon_name: str = "") -> SafeString:
    """`{% badge "good" "Paid" %}`: a state in words and a shape; `tone` is good, warn, bad, info or neutral."""
    return format_html('<span class="badge badge-{}">{}{}</span>', tone, icon(icon_name or TONE_ICONS[tone]), text)


@register.simple_tag(takes_context=True)
def nav_link(context: dict[str, Any], name: str, text: str, count: int | None = None) -> SafeString:
    """`{% nav_link "contributors:works" "Works" %}`: an entry of the navigation, marked where the visitor is.

    `count`, where it is not 0, stands behind the text as a number.
    """
    try:
        address = reverse(name)
    except NoReverseMatch:
        return mark_safe("")
    path = getattr(context.get("request"), "path", "")
    # The two home pages are prefixes of every other page: they are current only where they are the page.
    here = path == address if address in {"/portal/", "/console/"} else path.startswith(address)
    current = mark_safe(' aria-current="page"') if here else ""
    number = format_html(' <span class="nav-count">{}</span>', count) if count else ""
    return format_html('<li><a href="{}"{}>{}{}</a></li>', address, current, text, number)


@register.simple_block_tag
def nav_group(content: str, title: str) -> SafeString:
    """`{% nav_group "Books" %} … nav_links … {% endnav_group %}`: entries under one title, marked as they are."""
    current = mark_safe(' class="menu-here"') if "aria-current" in content else ""
    return format_html(
        '<li><details class="menu nav-group"><summary{}>{}</summary><ul class="menu-panel">{}</ul></details></li>',
        current,
        title,
        content,
    )


@register.filter
def has_role(user: Any, names: str) -> bool:
    """`{% if user|has_role:"finance_maker finance_checker" %}`."""
    return bool(user.is_authenticated and user.has_role(*names.split()))


@register.filter
def alert_class(level: str) -> str:
    """Return the CSS class of a flash message's level."""
    return ALERTS.get(level, ("", "info"))[0]


@register.filter
def alert_icon(level: str) -> str:
    """Return the icon of a flash message's level."""
    return ALERTS.get(level, ("", "info"))[1]


@register.filter
def field_kind(field: Any) -> str:
    """How a bound form field is laid out: check, choices, or line."""
    widget = field.field.widget
    input_type = getattr(widget, "input_type", "")
    if input_type == "checkbox" and not hasattr(widget, "choices"):
        return "check"
    return "choices" if input_type in {"radio", "checkbox"} and hasattr(widget, "choices") else "line"
