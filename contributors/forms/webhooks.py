"""The form of a contributor's webhook endpoint."""

from __future__ import annotations

from django import forms

from people.models import WebhookEndpoint

WORDS = dict(WebhookEndpoint.Event.choices)


class EndpointForm(forms.Form):
    url = forms.CharField(max_length=500, label="Address", help_text="It begins with https:// and answers within 10 s.")
    events = forms.MultipleChoiceField(
        choices=[(event, WORDS[event]) for event in WebhookEndpoint.FOR_CONTRIBUTORS],
        widget=forms.CheckboxSelectMultiple,
        label="Tell it when",
    )
