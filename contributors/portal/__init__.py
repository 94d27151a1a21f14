"""The contributor's side of this app: entrance, works, consent. Other apps take the guard from here."""

from contributors.portal.guard import CHOSEN, ContributorRequest, contributor_required

__all__ = ["CHOSEN", "ContributorRequest", "contributor_required"]
