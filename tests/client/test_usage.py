"""Usage, balance and invoices by the client, over a programme with a month of charges."""

from __future__ import annotations

import csv
import io

import pytest
from django.utils import timezone
from tributary import InvalidInput, ProblemError, Tributary

from tests.client.conftest import Served

pytestmark = pytest.mark.usefixtures("on_served_data")


def test_a_service_reads_its_month_its_balance_and_its_invoices(served: Served) -> None:
    month = f"{timezone.now():%Y-%m}"
    with Tributary(served.url, served.key_with("usage:read", "generations:write")) as client:
        client.report(model_version="orator-1", output=" Peace.", external_id="usage-1")
        assert client.flush(30)
        rows = client.usage.month(month)
        assert sum(row["generations"] for row in rows) >= 1
        table = list(csv.DictReader(io.StringIO(client.usage.csv(month).decode("utf-8-sig"))))
        assert [row["generations"] for row in table] == [str(row["generations"]) for row in rows]
        assert client.usage.balance() == []
        assert list(client.usage.invoices()) == []
        with pytest.raises(InvalidInput, match="a month reads"):
            client.usage.month("last")
    with Tributary(served.url, served.key) as client, pytest.raises(ProblemError, match="usage:read"):
        client.usage.balance()


def test_a_service_sets_and_removes_its_limit(served: Served) -> None:
    with Tributary(served.url, served.key_with("usage:read", "limits:write")) as client:
        made = client.usage.set_limit("USD", "250.00", thresholds=[90], at_limit="refuse", contacts=["a@example.org"])
        assert (made["limit"], made["thresholds"], made["refuses"]) == ("250.000000000", [90, 100], False)
        assert client.usage.limits() == [made]
        with pytest.raises(ProblemError, match="thresholds"):
            client.usage.set_limit("USD", "250.00", thresholds=[101])
        with pytest.raises(InvalidInput, match="a currency reads as USD"):
            client.usage.set_limit("../x", "1.00")
        client.usage.remove_limit("USD")
        assert client.usage.limits() == []
