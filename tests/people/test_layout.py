"""Tags for repeated markup write the same markup as by hand, and escape every value."""

from __future__ import annotations

import re

from django.template import Context, Template


def rendered(source: str, **values: object) -> str:
    text = Template("{% load layout figures %}" + source).render(Context(values))
    return re.sub(r">\s+<", "><", text.strip())


def test_a_fact_is_a_term_with_its_value() -> None:
    assert rendered('{% fact "Rule" rule|default:"–" %}', rule="") == "<div><dt>Rule</dt><dd>–</dd></div>"
    assert rendered('{% fact "Id" id css="break" %}', id=7) == '<div><dt>Id</dt><dd class="break">7</dd></div>'
    assert (
        rendered('{% fact "Hash" hash|identifier %}', hash="ab") == "<div><dt>Hash</dt><dd><code>ab</code></dd></div>"
    )


def test_a_value_is_written_as_in_double_braces() -> None:
    for value in ("<script>", None, 1234567, True, ""):
        by_hand = rendered("<div><dt>X</dt><dd>{{ value }}</dd></div>", value=value)
        assert rendered('{% fact "X" value %}', value=value) == by_hand
    assert rendered('{% fact "X" missing %}') == "<div><dt>X</dt><dd></dd></div>"


def test_a_row_of_facts_keeps_markup_and_escapes_its_values() -> None:
    row = '{% fact_row "By" css="small" %}<b>{{ name }}</b>{% endfact_row %}'
    assert rendered(row, name="<i>") == '<div><dt>By</dt><dd class="small"><b>&lt;i&gt;</b></dd></div>'


def test_a_head_of_a_table_marks_columns_of_numbers() -> None:
    assert rendered('{% table_head "Entry" "#Lines" %}') == (
        '<thead><tr><th scope="col">Entry</th><th scope="col" class="numeric">Lines</th></tr></thead>'
    )


def test_a_header_has_its_title_its_lede_and_its_way_back() -> None:
    plain = '<header class="page-header"><h1>Holds &amp; more</h1><p class="lede">Stopped.</p></header>'
    assert rendered('{% page_title title "Stopped." %}', title="Holds & more") == plain
    assert rendered("{% page_header title %}\n  Stopped.\n{% endpage_header %}", title="Holds & more") == plain
    assert rendered('{% page_title "Holds" %}') == '<header class="page-header"><h1>Holds</h1></header>'
    back = rendered('{% page_title "Holds" parent=parent parent_url="/p/" here="Holds" %}', parent="<Payees>")
    assert '<a href="/p/">&lt;Payees&gt;</a>' in back
    assert back.index("breadcrumbs") < back.index("<h1>")
