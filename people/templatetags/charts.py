"""The tag that draws a bar chart."""

from __future__ import annotations

from typing import Any

from django import template

from people.presentation.charts import BarChart, drawing

register = template.Library()


@register.inclusion_tag("people/partials/bar_chart.html")
def bar_chart(chart: BarChart) -> dict[str, Any]:
    """`{% bar_chart chart %}` draws a chart that the view made."""
    return drawing(chart)
