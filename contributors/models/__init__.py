"""Contributors, their works and their consents.

Decides the nouns of the lowest layer. It knows nothing of models, generations or money.
"""

from contributors.models.consents import Consent
from contributors.models.details import DetailsChange, FormerDetails
from contributors.models.links import ContributorLink, IdentifyingDetail, LinkedContributor, LinkEnd
from contributors.models.people import PPB, Contributor, MemberInvitation, Membership
from contributors.models.splits import Holder, Split, SplitDispute, SplitProposal, SplitProposalPart
from contributors.models.works import Dataset, DuplicateCluster, DuplicatePair, FingerprintBand, Work

__all__ = [
    "PPB", "Consent", "Contributor", "ContributorLink", "Dataset", "DetailsChange", "DuplicateCluster", "DuplicatePair",
    "FingerprintBand", "FormerDetails", "Holder", "IdentifyingDetail", "LinkEnd", "LinkedContributor",
    "MemberInvitation", "Membership", "Split", "SplitDispute", "SplitProposal", "SplitProposalPart", "Work",
]  # fmt: skip
