"""Everything feature_store raises.

FeatureStoreError
├── UnknownView              the feature service has no view of that name
├── FeaturesNotApplied       the repository's definitions are not in its registry yet
├── ApplyFailed              Feast refused the definitions
└── FeatureStoreUnavailable  the registry, the online store or a source cannot be read
"""


class FeatureStoreError(Exception):
    """Base of every error this room raises."""


class UnknownView(FeatureStoreError):
    """The service serves no view of that name; the message lists those it has."""


class FeaturesNotApplied(FeatureStoreError):
    """Nothing was applied yet, or not this service."""


class ApplyFailed(FeatureStoreError):
    """Feast's own words about what is wrong with the definitions."""


class FeatureStoreUnavailable(FeatureStoreError):
    """A store behind Feast failed."""
