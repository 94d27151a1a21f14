"""Bar charts drawn on the server: SVG without style or script, a sentence for readers that see no bars, and a table.

Computes the geometry. Words and colours are in templates/people/partials/bar_chart.html and static/app.css.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from people.presentation.amounts import exact_decimal, text_in_minor

HEIGHT, TOP, BOTTOM, LEFT = 220.0, 12.0, 34.0, 64.0
ROW, BAR = 44.0, 14.0  # A lying bar has its label above it.
UPRIGHT_LABEL_MAX = 12
LETTER = 6.8  # The mean width in pixels of a letter of a label.


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class BarChart:
    """Stacked bars over `labels`.

    Values are counts of `unit`. With `currency` they are amounts at 10^-`scale`; `places` decimals are always written.
    """

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    currency: str = ""
    scale: int = 0
    places: int = 0
    unit: str = ""
    label_heading: str = "Month"
    summary: str = ""

    def __post_init__(self) -> None:
        assert not self.currency or self.scale, "an amount has the scale of its currency"
        assert 1 <= len(self.series) <= 4, "four kinds of fill are told apart, no more"
        for series in self.series:
            assert len(series.values) == len(self.labels), f"{series.name} has a value for each label"
            assert all(value >= 0 for value in series.values), "bars grow upwards only"

    @property
    def totals(self) -> list[int]:
        return [sum(series.values[i] for series in self.series) for i in range(len(self.labels))]

    @property
    def code(self) -> str:
        return self.currency

    @property
    def exponent(self) -> int:
        return self.places

    def written(self, value: int) -> str:
        """Write a value with its unit, an amount in cents. The table below the bars has the exact one."""
        return text_in_minor(value, self) if self.currency else f"{value:,} {self.unit}".strip()

    def decimal(self, value: int, *, places: int | None = None) -> str:
        """An amount without its currency, exact."""
        places = self.places if places is None else places
        head, tail = exact_decimal(value, self.scale, places)
        return f"{head}{'.' if tail and not places else ''}{tail}"

    def sentence(self) -> str:
        """Describe the bars to a reader that does not see them."""
        if self.summary:
            return self.summary
        totals = self.totals
        if not any(totals):
            return f"{self.title}: nothing yet."
        if len(totals) == 1:
            return f"{self.written(totals[0])} in {self.labels[0]}."
        best = max(range(len(totals)), key=totals.__getitem__)
        last = "" if best == len(totals) - 1 else f", {self.written(totals[-1])} in {self.labels[-1]}"
        return (
            f"{self.written(sum(totals))} in all; the most in {self.labels[best]} ({self.written(totals[best])}){last}."
        )

    @property
    def lies(self) -> bool:
        """True when the labels are too long to stand below upright bars."""
        return max(map(len, self.labels), default=0) > UPRIGHT_LABEL_MAX


def _ceiling(value: int) -> int:
    """Return the least 1, 2, 2.5 or 5 times a power of ten that is not below `value`."""
    if value <= 0:
        return 1
    power: int = 10 ** (len(str(value)) - 1)
    for numerator in (10, 20, 25, 50, 100):
        if value * 10 <= power * numerator:
            return max(1, power * numerator // 10)
    return power * 10


def _tick(chart: BarChart, value: int) -> str:
    return chart.decimal(value, places=0) if chart.currency else f"{value:,}"


def _shortened(label: str, letters: int) -> str:
    """Cut a label in its middle, because titles of a series differ at their ends."""
    if len(label) <= letters:
        return label
    tail = (letters - 1) // 2
    return f"{label[: letters - 1 - tail].rstrip()}…{label[-tail:].lstrip()}"


def _lying(chart: BarChart, width: float) -> dict[str, Any]:
    """Compute the coordinates of bars that lie below each other, each with its whole label and its amount above."""
    most = max(1, *chart.totals)
    bars: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for i, (label, total) in enumerate(zip(chart.labels, chart.totals, strict=True)):
        left, top, written = 0.0, ROW * i, chart.written(total)
        for k, series in enumerate(chart.series):
            length = width * series.values[i] / most
            if length > 0:
                bars.append(
                    {
                        "x": f"{left:.1f}",
                        "y": f"{top + 22:.1f}",
                        "width": f"{max(length, 1.0):.1f}",
                        "height": f"{BAR:.1f}",
                        "fill": k + 1,
                    }
                )
                left += length
        letters = max(8, int(width / LETTER) - len(written) - 3)
        labels.append({"x": "0", "y": f"{top + 15:.0f}", "text": _shortened(label, letters), "anchor": "start"})
        labels.append({"x": f"{width:.0f}", "y": f"{top + 15:.0f}", "text": written, "anchor": "end"})
    height = f"{ROW * len(chart.labels):.0f}"
    return {"width": f"{width:.0f}", "height": height, "bars": bars, "labels": labels, "ticks": [], "lies": True}


def geometry(chart: BarChart, width: float) -> dict[str, Any]:
    """Compute the coordinates of every drawn part, in pixels, for a chart of this width."""
    if chart.lies:
        return _lying(chart, width)
    plot = HEIGHT - TOP - BOTTOM
    top_value = _ceiling(max(chart.totals, default=0))
    pitch = (width - LEFT) / max(1, len(chart.labels))
    bar_width = min(48.0, pitch * 0.62)
    every = max(1, math.ceil(52 / pitch))
    bars: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for i, label in enumerate(chart.labels):
        middle = LEFT + pitch * (i + 0.5)
        floor = HEIGHT - BOTTOM
        for k, series in enumerate(chart.series):
            height = plot * series.values[i] / top_value
            if height > 0:
                floor -= height
                bars.append(
                    {
                        "x": f"{middle - bar_width / 2:.1f}",
                        "y": f"{floor:.1f}",
                        "width": f"{bar_width:.1f}",
                        "height": f"{max(height, 1.0):.1f}",
                        "fill": k + 1,
                    }
                )
        if (len(chart.labels) - 1 - i) % every == 0:
            text_y = f"{HEIGHT - 10:.0f}"
            labels.append({"x": f"{middle:.1f}", "y": text_y, "text": label, "anchor": "middle"})
    ticks = [
        {"y": f"{TOP + plot * (1 - part / 2):.1f}", "text": _tick(chart, top_value * part // 2)} for part in range(3)
    ]
    return {
        "width": f"{width:.0f}",
        "height": f"{HEIGHT:.0f}",
        "left": int(LEFT),
        "right": int(width),
        "base": int(HEIGHT - BOTTOM),
        "bars": bars,
        "labels": labels,
        "ticks": ticks,
    }


def drawing(chart: BarChart) -> dict[str, Any]:
    """Return the values of templates/people/partials/bar_chart.html: two drawings (wide, small), legend and table."""
    rows = [
        {"label": label, "values": [(s.name, chart.written(s.values[i])) for s in chart.series]}
        for i, label in enumerate(chart.labels)
    ]
    return {
        "chart": chart,
        "sentence": chart.sentence(),
        "drawings": [("wide", geometry(chart, 720)), ("small", geometry(chart, 340))],
        "legend": [(k + 1, series.name) for k, series in enumerate(chart.series)] if len(chart.series) > 1 else [],
        "rows": rows,
    }
