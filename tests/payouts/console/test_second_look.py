"""A second look at money: a typed amount moves nothing until its reader has seen how it was read."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from payouts.models import TopUp
from people.console.confirmation import CHANGE, SHOWN
from tests.worlds.browser import LogIn, words_of
from tests.worlds.world import World

TOP_UP = {"number": "0199e5a2-0000-7000-8000-000000000001", "currency": "USD"}


@pytest.fixture
def maker(paying: World, log_in: LogIn) -> Client:
    paying.contributor(1234)
    return log_in(paying.maker)


def ask(client: Client, amount: str, **more: str) -> Any:
    return client.post(reverse("payouts:top_up"), TOP_UP | {"amount": amount} | more)


def test_a_decimal_comma_is_shown_as_it_was_read_before_any_money_moves(maker: Client) -> None:
    asked = ask(maker, "1250,50")
    page = words_of(asked)
    assert asked.status_code == 200
    assert "From the bank to Stripe USD 1,250.50" in page
    assert "Nothing has happened yet." in page
    assert not TopUp.objects.exists()
    assert ask(maker, "1250,50", **{SHOWN: asked.context["shown"]}).status_code == 302
    assert TopUp.objects.get().amount_minor == 125050


def test_an_amount_with_two_readings_is_refused_with_both(maker: Client) -> None:
    refused = ask(maker, "1,250")
    assert refused.status_code == 422
    assert "“1,250” has two readings. Type 1250 or 1.25." in words_of(refused)
    assert not TopUp.objects.exists()


def test_another_amount_than_the_shown_one_is_asked_about_again(maker: Client) -> None:
    shown = ask(maker, "5").context["shown"]
    again = ask(maker, "500", **{SHOWN: shown})
    assert "USD 500.00" in words_of(again)
    assert not TopUp.objects.exists()
    forged = ask(maker, "500", **{SHOWN: f"{shown}x"})
    assert "USD 500.00" in words_of(forged)
    assert not TopUp.objects.exists()


def test_a_look_of_one_person_serves_no_other(paying: World, maker: Client, log_in: LogIn) -> None:
    shown = ask(maker, "5").context["shown"]
    assert "USD 5.00" in words_of(ask(log_in(paying.checker), "5", **{SHOWN: shown}))
    assert not TopUp.objects.exists()


def test_change_leads_back_to_the_filled_form(maker: Client) -> None:
    shown = ask(maker, "1250,50").context["shown"]
    back = ask(maker, "1250,50", **{SHOWN: shown, CHANGE: "1"})
    assert back.status_code == 200
    assert 'value="1250,50"' in back.content.decode()
    assert not TopUp.objects.exists()
