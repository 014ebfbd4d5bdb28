"""The kind of a question: its domain where one knows it, else the cluster of like questions it falls into.

Clusters are made as questions come (leader clustering, Hartigan 1975): a question joins the nearest centroid, or
begins a cluster of its own when all are far. Questions are compared by hashed character trigrams of their telling
words, in well under a millisecond. Where the roster has an embedding student, its vectors join what letters do not,
behind the question's back: the cluster's trigrams then learn what belongs together by meaning. No question waits
for a model.
"""

import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

MOST_CLUSTERS = 64
BUCKETS = 4096
MOST_FEATURES = 256
"""Features kept of a centroid: the weightiest, so that it stays small however much it has seen."""

READ_CHARACTERS = 600
"""Read of each end of a long question: what is wanted stands at the beginning or at the end."""

NEAR = 0.22
"""Least cosine of trigrams at which questions are of one kind: set on the sorts of questions in its tests."""

STANDS_OUT = 4.0
"""Standard deviations above the other clusters by which one is near in meaning. How high cosines lie is each model's
own: with one, a fixed 0.6 made a kind of every question (benchmarks/kinds.py)."""

_FEWEST_OTHERS = 6
"""With fewer there is nothing to stand out from, and letters alone decide."""

_MEMORY = 50
"""Questions after which a centroid stops slowing down: it follows what is asked of late."""

_SMALL_WORDS = (
    "a an and are as at be by can could do does for from give has have how i if in into is it its me my of on or "
    "please should so that the their them then there these this to was we were what which will with would you your"
)
_SMALL = frozenset(_SMALL_WORDS.split())

Sparse = Mapping[int, float]


@dataclass(slots=True)
class Cluster:
    """One kind: unit-length centroids by trigrams and by meaning, how many questions it took in, their common words."""

    name: str
    trigrams: Sparse
    size: int = 1
    meaning: tuple[float, ...] = ()
    words: dict[str, int] = field(default_factory=dict[str, int])

    def examples(self, most: int = 4) -> list[str]:
        """Return the words most of its questions share, for people."""
        return [word for word, _ in Counter(self.words).most_common(most)]


class Kinds:
    """The clusters of a workspace. Equal questions in equal order give equal kinds.

    `save` is told of each cluster that changed. `keep_words` False keeps nothing that a person could read.
    """

    def __init__(
        self,
        clusters: Iterable[Cluster] = (),
        *,
        save: Callable[[Cluster], None] = lambda _cluster: None,
        keep_words: bool = True,
    ) -> None:
        self.clusters = {one.name: one for one in clusters}
        self._save = save
        self._keep_words = keep_words
        for cluster in self.clusters.values():
            if cluster.words and not keep_words:
                cluster.words = {}
                save(cluster)

    def of(self, question: str, domain: str | None) -> str:
        """Return the kind of a question without changing anything: of one unlike all before, the cluster to come."""
        if domain:
            return domain
        trigrams = trigrams_of(question)
        nearest, likeness = self._nearest(trigrams)
        if nearest is None or (likeness < NEAR and len(self.clusters) < MOST_CLUSTERS):
            return self._next_name()
        return nearest.name

    def learn(self, question: str, domain: str | None, meaning: Sequence[float] = ()) -> str:
        """Take a question in and return its kind. `meaning` is its embedding, where one was to be had."""
        if domain:
            return domain
        trigrams, vector = trigrams_of(question), _unit(meaning)
        cluster = self._home(trigrams, vector)
        if cluster is None:
            cluster = Cluster(self._next_name(), trigrams, meaning=vector)
            self.clusters[cluster.name] = cluster
        else:
            self._move(cluster, trigrams, vector)
        if self._keep_words:
            _count_words(cluster, question)
        self._save(cluster)
        return cluster.name

    def describe(self, kind: str) -> str:
        """Return a kind for people: a cluster with some of its words."""
        cluster = self.clusters.get(kind)
        words = cluster.examples() if cluster else []
        return f"{kind} ({', '.join(words)})" if words else kind

    def _home(self, trigrams: Sparse, vector: tuple[float, ...]) -> Cluster | None:
        """Return the cluster to join; None to begin one."""
        full = len(self.clusters) >= MOST_CLUSTERS
        by_meaning = [one for one in self.clusters.values() if len(one.meaning) == len(vector) > 0]
        likeness = [_dot(one.meaning, vector) for one in by_meaning]
        best = _standing_out(likeness)
        if best is not None:
            return by_meaning[best]
        nearest, by_letters = self._nearest(trigrams)
        return nearest if by_letters >= NEAR or full else None

    def _nearest(self, trigrams: Sparse) -> tuple[Cluster | None, float]:
        best, likeness = None, -1.0
        for cluster in self.clusters.values():
            here = cluster.trigrams
            found = sum(weight * here[bucket] for bucket, weight in trigrams.items() if bucket in here)
            if found > likeness:
                best, likeness = cluster, found
        return best, likeness

    def _move(self, cluster: Cluster, trigrams: Sparse, vector: tuple[float, ...]) -> None:
        share = 1.0 / (min(cluster.size, _MEMORY) + 1)
        moved = {bucket: (1 - share) * weight for bucket, weight in cluster.trigrams.items()}
        for bucket, weight in trigrams.items():
            moved[bucket] = moved.get(bucket, 0.0) + share * weight
        if len(moved) > MOST_FEATURES:
            moved = dict(sorted(moved.items(), key=lambda item: (-item[1], item[0]))[:MOST_FEATURES])
        cluster.trigrams = _normal(moved)
        if vector and len(cluster.meaning) == len(vector):
            pairs = zip(cluster.meaning, vector, strict=True)
            cluster.meaning = _unit([(1 - share) * old + share * new for old, new in pairs])
        elif vector:
            cluster.meaning = vector
        cluster.size += 1

    def _next_name(self) -> str:
        return f"cluster-{len(self.clusters) + 1}"


# Both are asked for as a question comes, and again when it is learned from.
@lru_cache(maxsize=256)
def trigrams_of(question: str) -> Sparse:
    """Return a question's trigrams by bucket, of unit length; digits are alike, small words say nothing."""
    counts: Counter[int] = Counter()
    for word in _words(question):
        padded = f" {word} "
        for start in range(len(padded) - 2):
            counts[zlib.crc32(padded[start : start + 3].encode()) % BUCKETS] += 1
    common = counts.most_common(MOST_FEATURES)
    return _normal({bucket: 1.0 + math.log(number) for bucket, number in common})


@lru_cache(maxsize=256)
def _words(question: str) -> Sequence[str]:
    text = question
    if len(text) > 2 * READ_CHARACTERS:
        text = f"{text[:READ_CHARACTERS]} {text[-READ_CHARACTERS:]}"
    lowered = "".join("0" if c.isdigit() else c if c.isalpha() else " " for c in text.casefold())
    words = lowered.split()
    return [word for word in words if word not in _SMALL] or words


def _standing_out(cosines: Sequence[float]) -> int | None:
    """Return the place of the highest cosine where it stands out from the others, else None."""
    if len(cosines) <= _FEWEST_OTHERS:
        return None
    highest = max(range(len(cosines)), key=cosines.__getitem__)
    others = [one for place, one in enumerate(cosines) if place != highest]
    mean = math.fsum(others) / len(others)
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in others) / len(others))
    return highest if cosines[highest] > mean + STANDS_OUT * spread else None


def _count_words(cluster: Cluster, question: str) -> None:
    for word in sorted(set(_words(question))):
        if len(word) > 2 and word.isalpha() and len(word) <= 24:
            cluster.words[word] = cluster.words.get(word, 0) + 1
    if len(cluster.words) > 2 * MOST_CLUSTERS:
        cluster.words = dict(Counter(cluster.words).most_common(MOST_CLUSTERS))


def _normal(weights: Sparse) -> Sparse:
    length = math.sqrt(sum(weight * weight for weight in weights.values()))
    return {bucket: weight / length for bucket, weight in weights.items()} if length else {}


def _unit(vector: Sequence[float]) -> tuple[float, ...]:
    length = math.sqrt(sum(value * value for value in vector))
    return tuple(value / length for value in vector) if length and math.isfinite(length) else ()


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
