"""Figures, charts, and the contrast of every pair of colours that carries words."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone

import pytest
from django.conf import settings
from django.template import Context, Template

from people.presentation import charts
from people.templatetags import figures


def rendered(source: str, **context: object) -> str:
    return Template("{% load figures design charts %}" + source).render(Context(context))


def plain(html: object) -> str:
    return re.sub(r"<[^>]+>", "", str(html))


@pytest.mark.parametrize(
    ("ppb", "text"),
    [(0, "0.00 %"), (1, "0.0000001 %"), (143_000_000, "14.30 %"), (1_000_000_000, "100.00 %"), (None, "–")],
)
def test_a_share_is_an_exact_percentage(ppb: int | None, text: str) -> None:
    assert plain(figures.share(ppb)) == text


def test_a_share_is_shown_with_its_interval() -> None:
    assert plain(rendered("{% share_interval 143000000 21000000 %}")) == "14.30 % ± 4.12"


def test_a_moment_is_told_in_utc_and_says_so() -> None:
    abroad = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=3)))
    assert plain(figures.moment(abroad)) == "31 Dec 2025, 22:30 UTC"
    assert 'datetime="2025-12-31T22:30:00Z"' in figures.moment(abroad)
    assert plain(figures.day(abroad)) == "31 Dec 2025"
    assert plain(figures.day(date(2026, 3, 1))) == "1 Mar 2026"
    assert figures.moment(None) == "–"


def test_a_digest_is_shortened_and_kept_in_full() -> None:
    shown = str(figures.digest(bytes(range(32))))
    assert "000102030405…" in shown
    assert bytes(range(32)).hex() in shown
    assert figures.digest(b"") == "–"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (5 * 2**20, "5.0 MiB"), (2**31, "2.0 GiB")],
)
def test_a_size_is_told_in_binary_units(size: int, text: str) -> None:
    assert figures.size(size) == text


def test_what_a_user_typed_is_escaped() -> None:
    assert "<script>" not in rendered('{% badge "good" text %}', text="<script>")


def test_a_badge_says_its_state_in_words_and_by_a_shape() -> None:
    shown = rendered('{% badge "bad" "Failed" %}')
    assert "Failed" in shown
    assert "<svg" in shown


def chart() -> charts.BarChart:
    return charts.BarChart(
        title="Earned per month",
        labels=["Sep 2026", "Oct 2026"],
        series=[charts.Series("Direct", [1_000_000_000, 3_000_000_000]), charts.Series("Floor", [0, 500_000_000])],
        currency="USD",
        scale=9,
        places=2,
    )


def test_a_chart_of_a_currency_without_minor_units_is_written_at_its_own_scale() -> None:
    yen = charts.BarChart(
        title="Earned", labels=["Oct"], series=[charts.Series("Direct", [1_250 * 10**7])], currency="JPY", scale=7
    )
    shown = rendered("{% bar_chart chart %}", chart=yen)
    assert "JPY 1,250 in Oct." in shown
    assert [tick["text"] for tick in charts.geometry(yen, 720)["ticks"]] == ["0", "1,000", "2,000"]
    with pytest.raises(AssertionError, match="scale of its currency"):
        charts.BarChart(title="T", labels=["a"], series=[charts.Series("s", [1])], currency="JPY")


def test_a_chart_carries_its_sentence_and_its_table() -> None:
    shown = rendered("{% bar_chart chart %}", chart=chart())
    assert "USD 4.50 in all; the most in Oct 2026 (USD 3.50)." in shown
    assert shown.count("<td") == 4
    assert shown.count('<rect class="series-1"') == 2 * 2 + 1
    assert "style=" not in shown


def test_a_single_bar_is_told_once() -> None:
    one = charts.BarChart(
        title="Earned", labels=["Nov 2026"], series=[charts.Series("s", [5 * 10**8])], currency="USD", scale=9, places=2
    )
    assert one.sentence() == "USD 0.50 in Nov 2026."


def test_long_labels_stand_whole_above_lying_bars() -> None:
    titles = ["Annual message to Congress, 1 December 1862", "Annual message to Congress, 8 December 1863"]
    lying = charts.BarChart(
        title="Earned", labels=titles, series=[charts.Series("s", [3, 1])], unit="receipts", label_heading="Work"
    )
    wide, small = charts.geometry(lying, 720), charts.geometry(lying, 340)
    assert [label["text"] for label in wide["labels"]] == [titles[0], "3 receipts", titles[1], "1 receipts"]
    assert len({label["text"] for label in small["labels"]}) == 4
    assert all(len(label["text"]) * charts.LETTER < 340 for label in small["labels"])
    assert [bar["width"] for bar in small["bars"]] == ["340.0", "113.3"]
    assert "".join(titles) in "".join(
        re.findall(r"<th scope=\"row\">([^<]*)", rendered("{% bar_chart chart %}", chart=lying))
    )


def test_the_bars_of_a_chart_stack_up_to_their_sum() -> None:
    drawing = charts.geometry(chart(), 720)
    plot = charts.HEIGHT - charts.TOP - charts.BOTTOM
    october = [bar for bar in drawing["bars"] if bar["x"] == drawing["bars"][-1]["x"]]
    assert sum(float(bar["height"]) for bar in october) == pytest.approx(plot * 3.5 / 5, abs=0.2)
    assert [tick["text"] for tick in drawing["ticks"]] == ["0", "2.5", "5"]


@pytest.mark.parametrize(("value", "ceiling"), [(0, 1), (1, 1), (3, 5), (11, 20), (99, 100), (101, 200), (250, 250)])
def test_an_axis_ends_on_a_round_number(value: int, ceiling: int) -> None:
    assert charts._ceiling(value) == ceiling


def test_an_empty_chart_says_so() -> None:
    empty = charts.BarChart(
        title="Earned", labels=["Oct"], series=[charts.Series("Direct", [0])], currency="USD", scale=9
    )
    assert "Earned: nothing yet." in rendered("{% bar_chart chart %}", chart=empty)


def test_a_chart_without_values_for_each_label_is_refused() -> None:
    with pytest.raises(AssertionError, match="each label"):
        charts.BarChart(title="T", labels=["a"], series=[charts.Series("s", [])])


# --- colours ------------------------------------------------------------------------------------------------------
def tokens() -> dict[str, tuple[str, str]]:
    css = (settings.BASE_DIR / "static" / "app.css").read_text()
    pairs = {}
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css):
        pairs[name] = (light, dark)
    for name, colour in re.findall(r"--(masthead[\w-]*): (#\w{6})", css):
        pairs[name] = (colour, colour)
    return pairs


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: the ratio of relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


GROUNDS = ("paper", "surface", "sunken")
TEXT = [
    *((ink, ground) for ink in ("ink", "ink-soft", "accent", "bad", "good", "warn") for ground in GROUNDS),
    *((tone, f"{tone}-soft") for tone in ("accent", "good", "warn", "bad", "quiet")),
    *(("ink", f"{tone}-soft") for tone in ("accent", "good", "warn", "bad", "quiet")),
    ("ink-soft", "accent-soft"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("masthead-ink", "masthead"),
    ("masthead-soft", "masthead"),
]
PARTS = [
    ("line-strong", "paper"),
    ("line-strong", "surface"),
    ("accent", "paper"),
    ("accent", "surface"),
    *((f"series-{i}", "surface") for i in (1, 2, 3, 4)),
]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground", "ratio"), [*((*p, 4.5) for p in TEXT), *((*p, 3.0) for p in PARTS)])
def test_words_and_controls_stand_out_from_their_ground(ink: str, ground: str, ratio: float, mode: int) -> None:
    colours = tokens()
    assert contrast(colours[ink][mode], colours[ground][mode]) >= ratio


# --- markup of every template ---------------------------------------------------------------------------------------
TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))


def test_a_block_that_may_scroll_is_a_stop_of_the_keyboard() -> None:
    blocks = [(path.name, tag) for path in TEMPLATES for tag in re.findall(r"<pre\b[^>]*>", path.read_text())]
    assert len(blocks) > 3
    assert [block for block in blocks if 'tabindex="0"' not in block[1]] == []


def test_a_list_keeps_its_own_role() -> None:
    """A role on a list takes the role of its items away, as axe's rule listitem says."""
    lists = [(path.name, tag) for path in TEMPLATES for tag in re.findall(r"<[uo]l\b[^>]*>", path.read_text())]
    assert len(lists) > 30
    assert [one for one in lists if " role=" in one[1]] == []


def test_a_long_hash_breaks_in_a_timeline() -> None:
    [rule] = re.findall(r"\.timeline > li \{([^}]*)\}", (settings.BASE_DIR / "static" / "app.css").read_text())
    assert "overflow-wrap: anywhere" in rule
