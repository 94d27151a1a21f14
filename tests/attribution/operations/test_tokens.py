"""Token ids against text: at the report where the tokeniser's file is here, by the worker otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from attribution.models import Attribution, Generation
from attribution.operations import attributions
from attribution.operations.tokens import difference
from config.demo.model import Tokeniser
from tests.worlds.odd_models import FACTORY, register_odd
from tests.worlds.programme import Programme

TEXT = " and House of Representatives, the state of the Union is peace."
OTHER = " I transmit to the Senate a report on the Indian tribes."


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("Peace,  said he.", "peace, said he."),
        ("a b", "<s>\u2581a\u2581b</s><|endoftext|>"),
        ("caf\u00e9 noir", "cafe\u0301 noir"),
        ("caf\u00e9 noir, un", "caf \u2047 noir, un"),
        ("the end of a tale \U0001f600", "the end of a tale \ufffd"),
        ("It is over.", "It is over.\n\nUser:"),
        ("\ufb01sh", "fish"),
        ("<|adams|>so it is", "<|adams|>so it is"),
    ],
)
def test_spaces_case_symbols_and_unsayable_characters_are_no_difference(text: str, decoded: str) -> None:
    assert difference(text, decoded) == ""


@pytest.mark.parametrize(
    ("text", "decoded", "words"),
    [
        ("The lamp is lit.", "The lamp is out.", "from character 13 on: the text says 'lit.', the tokens say 'out.'"),
        ("The lamp", "The", "from character 4 on"),
        ("The lamp", "The lamp" + " and so on" * 9, "from character 9 on"),
        ("caf\u00e9 noir", "caf \u2047 blanc", "the tokens say 'blanc'"),
    ],
)
def test_another_text_is_a_difference_with_its_place(text: str, decoded: str, words: str) -> None:
    assert words in difference(text, decoded)


@pytest.fixture
def tokeniser(indexed: Programme) -> Tokeniser:
    from attribution.operations.indexes import open_built

    assert indexed.index is not None
    found = open_built(index=indexed.index).model.tokeniser
    assert isinstance(found, Tokeniser)
    return found


def test_registration_notes_what_the_model_reads(indexed: Programme) -> None:
    version = indexed.model_version
    assert (version.vocabulary, version.context, version.decoder) == (520, 129, "tokenizer.model")


def test_ids_of_another_text_are_refused_at_the_report_with_the_first_difference(
    indexed: Programme, tokeniser: Tokeniser
) -> None:
    """A batch that is off by one would pay the wrong people."""
    right = {"text": TEXT, "token_ids": tokeniser.encode(TEXT)}
    wrong = {"text": TEXT, "token_ids": tokeniser.encode(OTHER)}
    taken, refused = indexed.report(
        indexed.generation("right", output=right), indexed.generation("wrong", output=wrong)
    )
    assert (taken.status, refused.status) == (201, 422)
    assert refused.refusal is not None
    assert refused.refusal.problem == "text-and-tokens-differ"
    assert refused.refusal.members["field"] == "output.token_ids"
    assert "from character 1 on: the text says 'and house of" in str(refused.refusal)


def test_where_no_file_decodes_the_worker_compares(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories = {**settings.TRIBUTARY_MODEL_FACTORIES, "odd": FACTORY}
    monkeypatch.setattr(settings, "TRIBUTARY_MODEL_FACTORIES", factories)
    version = register_odd(indexed, "conditional", tmp_path / "model")
    assert (version.vocabulary, version.decoder) == (256, "")
    outputs = {
        "right": {"text": "the harbour", "token_ids": list(b"the harbour")},
        "wrong": {"text": "the harbour", "token_ids": list(b"the bakery")},
    }
    for name, output in outputs.items():
        (result,) = indexed.report(indexed.generation(name, model_version=version.name, output=output))
        assert result.status == 201
    assert attributions.attribute_batch(at=indexed.at) == 2
    found = {row.external_id: row for row in Generation.objects.all()}
    assert found["right"].state == "attributed"
    assert found["wrong"].state == "unattributable"
    assert "output.text and output.token_ids differ from character 5" in found["wrong"].error


@pytest.mark.parametrize("field", ["prompt", "output"])
def test_a_token_outside_the_vocabulary_is_refused_at_the_report(indexed: Programme, field: str) -> None:
    body: dict[str, Any] = {"output": {"text": "", "token_ids": [17, 4]}, "prompt": {"token_ids": [3]}}
    body[field] = {"token_ids": [17, 4, 520], "text": ""}
    (result,) = indexed.report(indexed.generation("g1", **body))
    assert result.refusal is not None
    assert result.refusal.problem == "token-outside-vocabulary"
    assert f"{field}.token_ids[2] is 520: the model has the tokens 0 to 519." in str(result.refusal)


def test_tokens_of_the_prompt_are_read_in_place_of_its_text(indexed: Programme, tokeniser: Tokeniser) -> None:
    prompt = "Fellow citizens of the Senate"
    bodies = {
        "text": {"text": prompt},
        "ids": {"token_ids": tokeniser.encode(prompt)},
        "other": {"text": prompt, "token_ids": tokeniser.encode("The Indian tribes")},
    }
    for name, body in bodies.items():
        indexed.report(indexed.generation(name, prompt=body, output={"text": TEXT}))
    assert attributions.attribute_batch(at=indexed.at) == 3
    pay = {name: Attribution.objects.get(generation__external_id=name).pay for name in bodies}
    assert pay["text"] == pytest.approx(pay["ids"], rel=1e-3)
    assert pay["other"] != pytest.approx(pay["ids"], rel=1e-2)
    assert Generation.objects.get(external_id="ids").prompt_text == ""


def test_a_text_of_null_is_taken_beside_tokens_alone(indexed: Programme) -> None:
    """The usual form of a tool call."""
    taken, refused = indexed.report(
        indexed.generation("call", output={"text": None, "token_ids": [17, 4]}),
        indexed.generation("none", output={"text": None}),
    )
    assert taken.status == 201
    assert Generation.objects.get().output_text == ""
    assert "null is taken only beside output.token_ids" in str(refused.refusal)


def test_a_currency_that_no_plan_has_is_refused_at_the_report(indexed: Programme) -> None:
    (result,) = indexed.report(indexed.generation("g1", gross={"amount": "0.05", "currency": "XXX"}))
    assert result.refusal is not None
    assert result.refusal.problem == "unknown-currency"
    assert result.refusal.members["field"] == "gross.currency"


def test_the_last_tokens_are_read_of_what_is_too_long(indexed: Programme, tokeniser: Tokeniser) -> None:
    """A prompt of a megabyte is taken; the model reads the end of it, and the row says how much."""
    style, text = "<jefferson>", "the harbour lamp of the old town " * 30_000
    prompt = tokeniser.encode(style) + tokeniser.encode(text)
    long, cut = indexed.report(
        indexed.generation("long", prompt={"text": style + text}, output={"text": TEXT}),
        indexed.generation(
            "cut",
            prompt={"token_ids": prompt[:1] + prompt[-(128 - len(tokeniser.encode(TEXT))) :]},
            output={"text": TEXT},
        ),
    )
    assert (long.status, cut.status) == (201, 201)
    assert attributions.attribute_batch(at=indexed.at) == 2
    rows = {name: Attribution.objects.get(generation__external_id=name) for name in ("long", "cut")}
    assert (rows["long"].read_tokens, rows["cut"].read_tokens, rows["cut"].given_tokens) == (129, 129, 129)
    assert rows["long"].given_tokens == len(prompt) + len(tokeniser.encode(TEXT))
    assert rows["long"].scored_tokens == rows["cut"].scored_tokens
    assert rows["long"].scores == pytest.approx(rows["cut"].scores, rel=1e-3, abs=1e-7)


def test_the_report_says_at_once_what_is_known(indexed: Programme) -> None:
    empty, long, short = indexed.report(
        indexed.generation("empty", output={"text": ""}),
        indexed.generation("long", output={"text": "", "token_ids": [5] * 200}),
        indexed.generation("short"),
    )
    assert "cannot be attributed" in empty.notice
    assert long.notice == "Only the last 129 of 200 tokens are read: the model reads no more at a time."
    assert short.notice == ""
