"""How long a payout run takes: calculated, frozen, executed under Stripe's limits, reconciled; and the webhook inbox.
Each goal is printed with its measured value, met or not, and the processor time of each process.

    python -m benchmarks.payout_run [--quick] [--json FILE] [--payees N] [--latency-ms MS] [--rate PER_SECOND]

Execution talks to the sandbox as a process of its own, over HTTP, through the real stripe-python, with the latency and
the limit of the live service. The database is made for the run and dropped after it. The amounts owed come from
generations that were accrued, so that the calculation reads the rows of a real ledger.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.ledgers.databases import migrated_database
from benchmarks.ledgers.workload import new_generation_id
from payouts.queries.policies import terms_in_force
from people.operations.proposals import approve

# figure -> (the worst that meets the goal, in words)
GOALS: dict[str, tuple[float, str]] = {
    "calculate_and_freeze_seconds": (60, "10,000 payouts calculated and frozen from 1,000,000 credits"),
    "execute_seconds": (125, "10,000 payees executed at 250 ms latency, 100 writes a second allowed"),
    "double_payments": (0, "payouts with more than one transfer"),
    "not_at_their_end": (0, "payouts that are neither paid nor refused"),
    "rate_limited_percent": (1, "requests that Stripe answered with 429, in 100"),
    "writes_in_the_busiest_second": (100, "requests in any second, as they were written to the sockets"),
    "worker_rss_mb_max": (500, "memory of a worker, in MB"),
    "reconcile_seconds": (120, "the run reconciled with every transfer and balance transaction"),
    "differences": (0, "what the comparison did not explain"),
    "webhook_p99_ms": (50, "a webhook stored, at 200 a second: the 99th percentile"),
}

KEY = "sk_test_tributary_bench_0123456789"
SECRET = "whsec_bench_0123456789"
CREDITS_A_GENERATION = 100
WORKER_PROCESSES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 payees, 50,000 credits, 50 ms")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--payees", type=int)
    parser.add_argument("--latency-ms", type=int)
    parser.add_argument("--rate", type=float, default=90.0)
    parser.add_argument("--worker", type=int, metavar="RUN", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        work(args.worker)
        return
    payees = args.payees or (500 if args.quick else 10_000)
    credits = 50_000 if args.quick else 1_000_000
    latency_ms = args.latency_ms if args.latency_ms is not None else (50 if args.quick else 250)
    with migrated_database() as address:
        figures = measure(address, payees, credits, latency_ms, args.rate)
    figures["goals"] = judged(figures) if payees >= 10_000 and latency_ms >= 250 else {}
    show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(address: str, payees: int, credits: int, latency_ms: int, rate: float) -> dict[str, Any]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ["LOG_LEVEL"] = "ERROR"
    from tests.sandbox_server import running_sandbox

    log = Path("/tmp") / f"bench-sandbox-{os.getpid()}.log"
    with running_sandbox(address, key=KEY, read_key=KEY, webhook_secret=SECRET, log=log, checked=False) as sandbox:
        os.environ.update(sandbox.environment())
        os.environ["STRIPE_REQUESTS_PER_SECOND"] = str(rate)
        import django

        django.setup()
        sandbox.settings(latency_ms=0, reads_per_second=0, writes_per_second=0)
        figures: dict[str, Any] = {
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            "payees": payees,
            "credits": credits,
            "latency_ms": latency_ms,
            "limit_per_second": 100,
            "rate_per_second": rate,
        }
        world = prepare(sandbox, payees, credits)
        sandbox.settings(latency_ms=latency_ms, reads_per_second=100, writes_per_second=100)
        figures |= build(world)
        figures |= execute(sandbox, figures["run_id"], rate)
        figures |= reconcile(figures["run_id"])
        figures |= ingest()
    log.unlink(missing_ok=True)
    return figures


# --- the programme ------------------------------------------------------------------------------------------------
def prepare(sandbox: Any, payees: int, credits: int) -> dict[str, Any]:
    """Set up staff, payees with accounts there and here, the amounts owed to them, and the money at Stripe."""
    import uuid

    import numpy as np
    from django.db import transaction

    from contributors.models import Contributor
    from ledger import journal
    from ledger.documents import Document
    from ledger.journal import AccountKey
    from ledger.operations import periods
    from payouts.models import PayoutAccount
    from payouts.operations import funding, policies
    from people.operations.users import register_user

    at = datetime.now(UTC)
    periods.open_periods(at=at)
    people = {
        name: register_user(email=f"{name}@example.org", password=uuid.uuid4().hex, roles=roles, at=at)
        for name, roles in {"maker": ["finance_maker"], "checker": ["finance_checker"]}.items()
    }
    contributors = Contributor.objects.bulk_create(
        [
            Contributor(kind="person", legal_name=f"Payee {n}", display_name=f"Payee {n}", country="US", created_at=at)
            for n in range(payees)
        ],
        batch_size=2000,
    )
    # One account is opened as a user would; the others are its copies.
    names = sandbox.copy_account(sandbox.add_account(), payees)
    PayoutAccount.objects.bulk_create(
        [
            PayoutAccount(
                contributor=contributor,
                provider_account_id=name,
                country="US",
                destination_currency="USD",
                transfers_capability="active",
                payouts_enabled=True,
                details_submitted=True,
                created_at=at,
            )
            for name, contributor in zip(names, contributors, strict=True)
        ],
        batch_size=2000,
    )
    figures = {**terms_in_force("USD").figures, "minimum_minor": 100, "maturity_days": 0, "probation_days": 0}
    proposed = policies.propose_policy(currency="USD", figures=figures, reason="measured", by=people["maker"], at=at)
    approve(proposed, by=people["checker"], at=at, seen=seen())

    accrued = journal.open_accounts(
        [AccountKey("contributor_accrued", "USD", f"contributor:{c.pk}") for c in contributors]
    )
    (source,) = journal.open_accounts([AccountKey("service_unbilled", "USD", "service:1")])
    made = np.random.default_rng(1)
    per_credit = 10_000_000_000 * payees // credits
    owed = np.zeros(payees, dtype=np.int64)
    for batch in range(0, credits, CREDITS_A_GENERATION * 500):
        documents = []
        for _ in range(min(500, (credits - batch) // CREDITS_A_GENERATION)):
            chosen = np.sort(made.choice(payees, CREDITS_A_GENERATION, replace=False))
            amounts = made.integers(per_credit // 2, per_credit * 3 // 2, CREDITS_A_GENERATION)
            owed[chosen] += amounts
            documents.append(
                Document(new_generation_id(), 1, 1, source, int(amounts.sum()), np.array(accrued)[chosen], amounts)
            )
        with transaction.atomic():
            journal.post_accruals(
                idem_key=f"bench:{batch}",
                effective=at.date(),
                earned_period=at.year * 100 + at.month,
                documents=documents,
            )
    for start in range(0, payees, 5000):
        lines = [
            (AccountKey(kind, "USD", f"contributor:{contributors[n].pk}"), sign * int(owed[n]))
            for n in range(start, min(start + 5000, payees))
            if owed[n]
            for kind, sign in (("contributor_accrued", -1), ("contributor_payable", 1))
        ]
        # A day ago: an amount that a close makes payable today is paid from tomorrow on.
        journal.post(
            kind="close_payable",
            idem_key=f"bench-payable:{start}",
            effective=(at - timedelta(days=1)).date(),
            lines=lines,
            reference="bench",
        )
    minor = int(owed.sum()) // 10_000_000 + 1
    funding.fund_platform(currency="USD", amount_minor=minor, by=people["maker"], at=at, seen=seen())
    return people


# --- what is measured ---------------------------------------------------------------------------------------------
def seen() -> Any:
    from people.actor import Presence

    return Presence(mfa_age_seconds=1)


def build(people: dict[str, Any]) -> dict[str, Any]:
    from payouts.operations import approval, building, runs

    at = datetime.now(UTC)
    started = time.perf_counter()
    run = building.build_run(currency="USD", cut_off=at, by=people["maker"], at=at)
    built = time.perf_counter()
    run = runs.submit_run(run=run, by=people["maker"], at=at)
    frozen = time.perf_counter()
    run = approval.approve_run(
        run=run,
        by=people["checker"],
        typed_total=run.total_minor,
        content_hash=bytes(run.content_hash or b""),
        at=at,
        seen=seen(),
    )
    approval.start_execution(run=run, by=people["checker"], at=datetime.now(UTC), seen=seen())
    return {
        "run_id": run.pk,
        "payouts": run.n_payouts,
        "calculate_seconds": round(built - started, 2),
        "freeze_seconds": round(frozen - built, 2),
        "calculate_and_freeze_seconds": round(frozen - started, 2),
    }


def execute(sandbox: Any, run_id: int, rate: float) -> dict[str, Any]:
    """By worker processes as in production, which share one limit."""
    from payouts.models import Payout

    before = sandbox.audit()["requests"]
    command = [sys.executable, "-m", "benchmarks.payout_run", "--worker", str(run_id)]
    servers = {"sandbox": sandbox.process.pid, "postgres": _postmaster()}
    used = {name: cpu_seconds(pid) for name, pid in servers.items()}
    started = time.perf_counter()
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(WORKER_PROCESSES)]
    told = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    seconds = time.perf_counter() - started
    used = {name: cpu_seconds(pid) - used[name] for name, pid in servers.items()}
    used["executor"] = sum(one["cpu_seconds"] for one in told)
    after = sandbox.audit()
    requests = {name: after["requests"].get(name, 0) - before.get(name, 0) for name in ("writes", "rate_limited")}
    paid = Payout.objects.filter(run_id=run_id, state__in=Payout.PAID).count()
    return {
        "execute_seconds": round(seconds, 1),
        "paid": paid,
        "payouts_per_second": round(paid / seconds, 1),
        "double_payments": len(after["duplicates"]),
        "rate_limited": requests["rate_limited"],
        "rate_limited_percent": round(100 * requests["rate_limited"] / max(requests["writes"], 1), 2),
        "writes_in_the_busiest_second": busiest_second([moment for one in told for moment in one["written_at"]]),
        "busiest_second_as_the_sandbox_saw_it": after["requests"].get("writes_in_the_busiest_second", 0),
        "worker_rss_mb_max": max(one["rss_mb"] for one in told),
        "not_at_their_end": Payout.objects.filter(run_id=run_id, state__in=Payout.LIVE).count(),
        **{f"{name}_cpu_ms_a_payout": round(1000 * value / max(paid, 1), 2) for name, value in used.items()},
        "cores_used": round(sum(used.values()) / seconds, 2),
    }


def busiest_second(moments: list[float]) -> int:
    moments, start, most = sorted(moments), 0, 0
    for place, moment in enumerate(moments):
        while moments[start] <= moment - 1:
            start += 1
        most = max(most, place - start + 1)
    return most


def _postmaster() -> int:
    """The server's first process, where the server is on this machine; else our own, of which nothing is counted."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    name = Path(f"/proc/{backend}/comm")
    return _parent(backend) if name.exists() and "postgres" in name.read_text() else 0


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def cpu_seconds(pid: int) -> float:
    """Sum the CPU seconds of a process and everything below it so far, ended processes included."""
    if not pid:
        return 0.0
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                below.setdefault(_parent(int(entry.name)), []).append(int(entry.name))
    total, todo = 0.0, [pid]
    while todo:
        one = todo.pop()
        with contextlib.suppress(OSError):
            total += sum(int(ticks) for ticks in _stat(one)[11:15]) / os.sysconf("SC_CLK_TCK")
        todo += below.get(one, [])
    return total


def work(run_id: int) -> None:
    """One worker process: until nothing of the run is left to do."""
    import django

    django.setup()
    from payouts.attempts import crew
    from payouts.rails.stripe.client import _GuardedConnection

    written_at, ask = [], _GuardedConnection._ask

    def ask_and_note(*args: Any) -> None:
        ask(*args)
        written_at.append(time.monotonic())

    _GuardedConnection._ask = ask_and_note  # type: ignore[method-assign,assignment]
    end, begun = time.monotonic() + 900, time.process_time()
    while time.monotonic() < end:
        if crew.execute_run(run_id=run_id).live == 0:
            break
        time.sleep(0.2)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    used = time.process_time() - begun
    print(json.dumps({"rss_mb": memory, "cpu_seconds": used, "written_at": written_at}))


def reconcile(run_id: int) -> dict[str, Any]:
    from payouts.models import PayoutRun
    from payouts.reconciliation import comparison

    run = PayoutRun.objects.get(pk=run_id)
    started = time.perf_counter()
    record = comparison.reconcile_run(run=run, at=datetime.now(UTC) + timedelta(seconds=1))
    return {
        "reconcile_seconds": round(time.perf_counter() - started, 2),
        "differences": record.n_differences,
        "ledger_equals_stripe": record.ledger_balance == record.stripe_balance,
    }


def ingest(events: int = 1_000, per_second: float = 200.0) -> dict[str, Any]:
    """The inbox at a steady rate: verified, stored and answered, a request at a time, without the HTTP server."""
    from django.test import RequestFactory

    from payouts.api import webhooks
    from payouts.rails.stripe import webhooks as webhooks_stripe

    factory, seconds = RequestFactory(), []
    begun = time.perf_counter()
    for number in range(events):
        body = json.dumps(
            {
                "id": f"evt_bench{number}",
                "object": "event",
                "type": "balance.available",
                "created": int(time.time()),
                "livemode": False,
                "data": {"object": {"id": "ba_1", "padding": "x" * 2000}},
            }
        )
        signature = webhooks_stripe.sign(body.encode(), SECRET, timestamp=int(time.time()))
        request = factory.post(
            "/webhooks/stripe/", body, content_type="application/json", headers={"Stripe-Signature": signature}
        )
        time.sleep(max(begun + number / per_second - time.perf_counter(), 0))
        started = time.perf_counter()
        status = webhooks.stripe_webhook(request).status_code
        seconds.append(time.perf_counter() - started)
        assert status == 200, status
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "webhook_p50_ms": round(1000 * cuts[49], 2),
        "webhook_p99_ms": round(1000 * cuts[98], 2),
        "webhooks_per_second": round(events / (time.perf_counter() - begun), 1),
    }


def judged(figures: dict[str, Any]) -> dict[str, bool]:
    """Whether each goal is met; only a run of the full size says so."""
    return {name: figures[name] <= worst for name, (worst, _) in GOALS.items()}


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        if name not in ("goals", *GOALS):
            print(f"{name.replace('_', ' '):38} {value}")
    for name, (worst, words) in GOALS.items():
        met = figures["goals"].get(name)
        print(
            f"{name.replace('_', ' '):38} {figures[name]:>9}   goal {worst:>4g}  "
            f"{ {True: 'met', False: 'NOT MET', None: 'not judged at this size'}[met] }: {words}"
        )


if __name__ == "__main__":
    main()
