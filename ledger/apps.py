from django.apps import AppConfig


class LedgerConfig(AppConfig):
    name = "ledger"

    def ready(self) -> None:
        from ledger.operations import (
            advances,
            contracts,
            corrections,
            manual,
            plans,
            pools,
            taxes,
            verb_proposals,
            voids,
        )
        from people.queries import proposals

        proposals.register(
            plans.KIND,
            pools.KIND,
            contracts.KIND,
            advances.KIND,
            advances.CANCELLATION_KIND,
            manual.KIND,
            verb_proposals.KIND,
            verb_proposals.CLAIM_KIND,
            voids.KIND,
            corrections.KIND,
            taxes.KIND,
        )
