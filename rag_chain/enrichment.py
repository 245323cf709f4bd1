"""What features change: which passages come first, and what the prompt knows about the asker."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from feature_store.features import Feature, FeatureReader, FeatureRow, Value
from rag_chain.errors import UnknownUser, UnusableFeature
from rag_chain.second_stage import by_score
from vector_index.passages import Hit


@dataclass(frozen=True, slots=True)
class Preference:
    """Passages whose metadata `column` is in the user's list `feature` gain `weight`."""

    feature: str
    column: str
    weight: float


@dataclass(frozen=True, slots=True)
class FeatureUse:
    """Which features are read, and what for.

    document_weights: a passage gains weight * log10(1 + value) for each of these numbers of its
    document; a value below zero counts as much against it. These weights and the preference's are
    on the scale of the score that ranks: cosines without a reranker, else the reranker's scores.
    One that fits cosines is invisible beside logits of -12..12: weigh again when you switch.
    prompt_features: what the template of the system message may read about the user.
    """

    user_view: str
    document_view: str
    document_weights: Mapping[str, float]
    prompt_features: tuple[str, ...]
    preference: Preference | None


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """A reader and what is to be read from it."""

    reader: FeatureReader
    use: FeatureUse


@dataclass(frozen=True, slots=True)
class Enriched:
    """Hits in their final order, still with their cosine as score.

    profile: the user's prompt features, those that are known and fresh. user, documents: every
    known feature that was looked at, stale ones too; a stale one changed nothing.
    """

    hits: tuple[Hit, ...]
    profile: Mapping[str, Value] = field(default_factory=dict)
    user: tuple[Feature, ...] = ()
    documents: Mapping[str, tuple[Feature, ...]] = field(default_factory=dict)

    def features(self, hits: Sequence[Hit]) -> tuple[Feature, ...]:
        """The features behind a prompt of these hits: the user's, then each document's."""
        documents = dict.fromkeys(hit.passage.document_id for hit in hits)
        of_documents = (feature for key in documents for feature in self.documents.get(key, ()))
        return (*self.user, *of_documents)


def check_use(use: FeatureUse, reader: FeatureReader) -> None:
    """Raises UnusableFeature naming a feature that a view does not have, or UnknownView."""
    nobody = ""
    (user,) = reader.read(use.user_view, [nobody])
    (document,) = reader.read(use.document_view, [nobody])
    list(_picked(user, _user_features_used(use), use.user_view))
    list(_picked(document, use.document_weights, use.document_view))


def enrich(
    hits: Sequence[Hit],
    user: str | None,
    source: FeatureSource,
    *,
    scores: Sequence[float] | None = None,
) -> Enriched:
    """The hits, best first by score plus what features add; equal ones keep their order.

    scores: one for each hit, to rank by in place of the hit's own.
    Raises UnknownUser, UnusableFeature, or FeatureStoreError.
    """
    use = source.use
    asker = _user_features(user, source)
    keys = list(dict.fromkeys(hit.passage.document_id for hit in hits))
    rows = source.reader.read(use.document_view, keys)
    documents = {
        key: tuple(_picked(row, use.document_weights, use.document_view))
        for key, row in zip(keys, rows, strict=True)
    }
    fresh = {feature.name: feature.value for feature in asker if not feature.is_stale}

    def gain(hit: Hit) -> float:
        known = documents[hit.passage.document_id]
        gained = sum(_gain(f, use.document_weights[f.name]) for f in known if not f.is_stale)
        return gained + _preferred(hit, fresh, use.preference)

    base = [hit.score for hit in hits] if scores is None else scores
    ranks = [score + gain(hit) for hit, score in zip(hits, base, strict=True)]
    return Enriched(
        hits=by_score(hits, ranks),
        profile={name: value for name, value in fresh.items() if name in use.prompt_features},
        user=asker,
        documents=documents,
    )


def _user_features(user: str | None, source: FeatureSource) -> tuple[Feature, ...]:
    if user is None:
        return ()
    use = source.use
    (row,) = source.reader.read(use.user_view, [user])
    if not any(feature.is_present for feature in row.values()):
        raise UnknownUser(user, use.user_view)
    return tuple(_picked(row, _user_features_used(use), use.user_view))


def _user_features_used(use: FeatureUse) -> tuple[str, ...]:
    liked = [use.preference.feature] if use.preference else []
    return tuple(dict.fromkeys([*use.prompt_features, *liked]))


def _picked(row: FeatureRow, names: Iterable[str], view: str) -> Iterator[Feature]:
    for name in names:
        if name not in row:
            raise UnusableFeature(f"view {view} has no feature {name!r}; it has: {', '.join(row)}")
        if row[name].is_present:
            yield row[name]


def _gain(feature: Feature, weight: float) -> float:
    value = feature.value
    if value is None:
        return 0.0
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UnusableFeature(
            f"feature {feature.view}:{feature.name} of {feature.key!r} is {value!r}; "
            "ranking needs a finite number"
        )
    return weight * math.copysign(math.log10(1 + abs(value)), value)


def _preferred(hit: Hit, profile: Mapping[str, Value], preference: Preference | None) -> float:
    if preference is None:
        return 0.0
    liked = profile.get(preference.feature)
    is_liked = isinstance(liked, tuple) and hit.passage.metadata.get(preference.column) in liked
    return preference.weight if is_liked else 0.0
