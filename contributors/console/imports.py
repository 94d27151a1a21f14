"""Contributors from a CSV: a preview with every line, then the import."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from contributors.forms.members import ConfirmImportForm, ImportForm
from contributors.models import MemberInvitation
from contributors.operations import imports
from people.console.guard import recently_authenticated, staff_required, user_of
from people.console.presence import presence_of

SHOWN = 200


@require_http_methods(["GET", "POST"])
@staff_required(*imports.ROLES)
@recently_authenticated
def import_contributors(request: HttpRequest) -> HttpResponse:
    """Take a file and show its lines, or carry the shown lines out."""
    form = ImportForm(request.POST or None, request.FILES or None)
    confirmed = ConfirmImportForm(request.POST or None)
    found = None
    text, refusal = "", ""
    try:
        if request.method == "POST" and confirmed.is_valid():
            text = confirmed.cleaned_data["text"]
            done = imports.import_contributors(
                text=text, by=user_of(request), at=timezone.now(), seen=presence_of(request)
            )
            messages.success(
                request,
                f"{len(done.new)} contributors are registered and invited; {len(done.known)} were known. "
                "The mails go out within minutes.",
            )
            return redirect("contributors:import")
        if request.method == "POST" and form.is_valid():
            text = imports.text_of(form.cleaned_data["file"].read(imports.BYTES_MAX + 1))
            found = imports.preview(text)
    except imports.UnableToImport as error:
        refusal = str(error)
        form.add_error(None, refusal)
    waiting = MemberInvitation.objects.filter(
        role="owner", invitation__used_at=None, invitation__revoked_at=None, contributor__memberships=None
    )
    context = {
        "form": form if not confirmed.is_bound or "file" in request.FILES or refusal else ImportForm(),
        "found": found,
        "text": text,
        "rows": [*found.wrong, *found.new, *found.known][:SHOWN] if found else [],
        "waiting": waiting.select_related("invitation", "contributor").order_by("-pk")[:SHOWN],
        "n_waiting": waiting.count(),
        "columns": imports.COLUMNS,
    }
    return render(request, "contributors/console/import.html", context, status=422 if refusal else 200)
