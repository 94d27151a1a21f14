"""Forms that answer disputes."""

from __future__ import annotations

from django import forms

from ledger.models.disputes import WORDS_MAX


class AnswerDisputeForm(forms.Form):
    decision = forms.ChoiceField(
        choices=[
            ("declined", "Declined: the receipt stands"),
            ("upheld", "Upheld: the receipt is to be restated"),
        ],
        widget=forms.RadioSelect,
    )
    words = forms.CharField(
        label="Answer",
        max_length=WORDS_MAX,
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text="The contributor reads it on the receipt. Describe your checks and your findings.",
    )


class DecideContestForm(forms.Form):
    decision = forms.ChoiceField(
        choices=[
            ("upheld", "Upheld: the held money goes to the claimant"),
            ("declined", "Declined: it goes to the people that the sheet names"),
        ],
        widget=forms.RadioSelect,
    )
    words = forms.CharField(
        label="Answer",
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text="Both co-authors read it. Describe your checks and your findings.",
    )
