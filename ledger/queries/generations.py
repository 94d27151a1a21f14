"""One generation as finance staff see it: every revision, its postings, and the open requests for it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from attribution.models import Attribution, Generation
from ledger.models import Accrual, Entry

FOUND_MAX = 20


@dataclass(frozen=True, slots=True)
class Revision:
    """One attribution with the document that accrued it and the one that took it back, where there are such."""

    attribution: Attribution
    accrual: Accrual | None
    entry: Entry | None
    taken_back: Entry | None

    @property
    def stands(self) -> bool:
        return self.accrual is not None and self.taken_back is None


def generation(generation_id: uuid.UUID) -> Generation | None:
    rows = Generation.objects.select_related("service", "model_version", "void__voided_by")
    return rows.defer("prompt_text", "output_text", "token_ids").filter(pk=generation_id).first()


def find_generations(text: str) -> list[Generation]:
    """Those of this number, or of this external id at any service; the newest first, at most FOUND_MAX."""
    rows = Generation.objects.select_related("service", "model_version").defer(
        "prompt_text", "output_text", "token_ids"
    )
    try:
        rows = rows.filter(pk=uuid.UUID(text))
    except ValueError:
        rows = rows.filter(external_id=text)
    return list(rows.order_by("-pk")[:FOUND_MAX])


def revisions_of(found: Generation) -> list[Revision]:
    """Every attribution of a generation, the newest first."""
    documents = {
        document.revision: document
        for document in Accrual.objects.filter(generation=found).select_related("plan", "source__asset")
    }
    batches = [document.batch_id for document in documents.values()]
    entries = {e.batch_id: e for e in Entry.objects.filter(batch_id__in=batches).select_related("period")}
    rows = Attribution.objects.filter(generation=found).select_related("index__model_version").order_by("-revision")
    made = []
    for row in rows:
        accrual, back = documents.get(row.revision), documents.get(-row.revision)
        made.append(
            Revision(
                row,
                accrual,
                entries[accrual.batch_id] if accrual else None,
                entries[back.batch_id] if back else None,
            )
        )
    return made
