"""The periodic tasks that the installation runs for itself."""

from celery import shared_task
from django.utils import timezone

from config import books


@shared_task
def check_books() -> None:
    """Run every invariant and keep the result, which /readyz and the console show."""
    books.check_books(at=timezone.now())
