"""The list of steps, in the order in which a new installation takes them."""

from __future__ import annotations

from config.setup import machine, programme
from config.setup.steps import Step

MAKERS, MODELS, ADMIN = "finance maker", "model team or admin", "admin"
STEPS = (
    Step("database", "Database", machine.database, command="manage.py setup_database", is_machine=True),
    Step("roles", "Database roles", machine.roles, command="manage.py setup_database", is_machine=True),
    Step("broker", "Broker", machine.broker, command="see docs/operate/deployment.md, Broker", is_machine=True),
    Step("workers", "Workers", machine.workers, command="manage.py up", is_machine=True),
    Step("disk", "Disk", machine.disk, command="set TRIBUTARY_DATA to a larger volume", is_machine=True),
    Step("time", "Time", machine.clock, command="turn on NTP on both machines", is_machine=True),
    Step(
        "outbound",
        "Outbound traffic",
        machine.outbound_traffic,
        command="set OUTBOUND_PROXY=http://host:port and OUTBOUND_CA_FILE=/path/ca.pem",
        is_machine=True,
    ),
    Step("site", "Site", machine.secrets, command="set SITE_URL=https://...", is_machine=True),
    Step("admin", "First administrator", programme.administrator, command="manage.py create_admin EMAIL", roles=ADMIN),
    Step(
        "staff",
        "Staff of both halves",
        programme.staff,
        page="/console/staff/invite/",
        roles=ADMIN,
        command="manage.py invite_staff EMAIL --role finance_maker",
    ),
    Step(
        "legal_entity",
        "Legal entity",
        programme.legal_entity,
        page="/console/programme/",
        roles=ADMIN,
        command="manage.py describe_programme --name N --legal-name L --address A --country DE --tax-number T",
    ),
    Step("mail", "Mail", machine.mail, page="/console/mail/", command="set EMAIL_URL=smtp+tls://...", roles=ADMIN),
    Step(
        "stripe",
        "Stripe",
        machine.stripe,
        page="/console/funding/",
        roles=ADMIN,
        command="set STRIPE_SECRET_KEY and STRIPE_READ_KEY",
    ),
    Step("plan", "Royalty plan", programme.plan, page="/console/plans/", roles=f"{MAKERS}, then finance checker"),
    Step(
        "policy", "Payout policy", programme.policy, page="/console/policies/", roles=f"{MAKERS}, then finance checker"
    ),
    Step(
        "contributors",
        "Contributors and works",
        programme.contributors,
        page="/console/contributors/import/",
        roles=f"{ADMIN} or compliance",
        command="manage.py import_contributors FILE.csv",
    ),
    Step("service", "First service, with a key", programme.service, page="/console/services/", roles=MODELS),
    Step("model", "First model version", programme.model, page="/console/services/", roles=MODELS),
    Step(
        "index",
        "Index",
        programme.index,
        page="/console/services/",
        command="manage.py build_index SERVICE/MODEL",
        roles=MODELS,
    ),
    Step(
        "evaluation",
        "Evaluation",
        programme.evaluation,
        page="/console/services/",
        command="manage.py audit_index MODEL",
        roles=MODELS,
    ),
    Step("period", "Open month", programme.period, page="/console/periods/", roles="nobody: the beat opens it"),
)
MACHINE = tuple(step for step in STEPS if step.is_machine)
PROGRAMME = tuple(step for step in STEPS if not step.is_machine)
