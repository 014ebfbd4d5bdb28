"""When two questions are the same: keys of kept answers, and what must be equal where they only mean the same. Pure.

An embedding hardly tells "47 + 58" from "47 + 59", or "is" from "is not". So what such differences are made of, the
guard, must be equal first, before `same_question` looks at the other words that differ; see
docs/decisions/0014-response-cache.md.
"""

import hashlib
import json
import math
import re
from array import array
from collections.abc import Iterable, Sequence
from operator import mul
from pathlib import Path

from studium.records.answers import Query
from studium.records.models import Student

_NEGATIONS = (
    "no not never none nobody nothing neither nor without except cannot unless hardly barely false wrong"
)
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half "
    "third quarter double twice triple first second last next previous once"
)
_OPPOSITES = (
    "more less most least fewer many few greater smaller larger largest smallest biggest big small higher lower "
    "highest lowest high low longer shorter longest shortest long short older younger oldest youngest old new "
    "before after above below over under up down in out on off left right north south east west ascending descending "
    "increasing decreasing increase decrease minimum maximum min max add subtract multiply divide plus minus times sum "
    "product difference all any some every only always best worst good bad better worse true from to with into "
    "am pm odd even and or who what when where why how which whose"
)
# Of one kind, and never the same: an embedding holds some of them very near.
_OTHERS = (
    "he she his her him my your our their husband wife mother father son daughter brother sister boy girl man woman "
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december today tomorrow yesterday morning evening night"
)
# Also German and French, whose commonest negations are not spelt like English ones.
_ELSEWHERE = "nicht kein keine keinen nie ohne ne pas jamais sans aucun aucune"
_WATCHED = frozenset(f"{_NEGATIONS} {_NUMBERS} {_OPPOSITES} {_OTHERS} {_ELSEWHERE}".split())
# What may begin a sentence with a capital letter and is no name.
_OPENING = (
    "a an the i it is are was were do does did can could would should will please tell give name say show explain "
    "describe find calculate compute work if let there this that these those of for at by write create make list "
    "suggest recommend translate summarise summarize compare help"
)
_OPENERS = frozenset(_OPENING.split())
_TOKEN = re.compile(
    r"\"[^\"]*\"|“[^”]*”|`[^`]*`|«[^»]*»|[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,:]\d+)*|[^\w\s]"
)
_SENTENCE_ENDS = frozenset(".!?:")
_PLAIN_PUNCTUATION = frozenset(".,!?;:")


def guard(question: str) -> tuple[str, ...]:
    """Return what must be equal, and in the same order, for two questions to mean the same.

    Numbers, operators, what stands in quotes, names (words with a capital letter, but for those that often begin a
    sentence), negations, and words that come with an opposite.
    """
    found: list[str] = []
    begins = True
    for token in _TOKEN.findall(question):
        word = token.lower()
        if token[0].isalpha():
            opens = token == "I" or (begins and token.istitle() and word in _OPENERS | _WATCHED)
            is_name = not token.islower() and not opens
            if is_name:
                found.append(token)
            elif word in _WATCHED or "n't" in word or "n’t" in word:
                found.append(word)
        elif token not in _PLAIN_PUNCTUATION:
            found.append(token)
        begins = token in _SENTENCE_ENDS
    return tuple(found)


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors, -1 to 1; 0 where they have no direction or not the same length."""
    length = math.sqrt(sum(map(mul, one, one)) * sum(map(mul, other, other)))
    if len(one) != len(other) or not length or not math.isfinite(length):
        return 0.0
    return sum(map(mul, one, other)) / length


def packed(vector: Sequence[float]) -> bytes | None:
    """Return a vector as float32 bytes; None where there is none, or no number in it is of use."""
    usable = len(vector) > 0 and all(map(math.isfinite, vector))
    return array("f", vector).tobytes() if usable else None


def unpacked(data: bytes) -> Sequence[float]:
    """Return what `packed` packed; nothing where it was damaged."""
    vector = array("f")
    if len(data) % vector.itemsize:
        return ()
    vector.frombytes(data)
    return vector


def exact_key(query: Query, circumstances: Sequence[object]) -> str:
    """Return the key of a question: a hash over all that decides its answer, and whose it is."""
    asked = [[message.role, message.content] for message in query.messages]
    return _hash(["exact", asked, query.prompt, *_choices(query), *circumstances])


def scope_of(query: Query, circumstances: Sequence[object]) -> str | None:
    """Return what must be equal but for the last message; None for a question that has no meaning of its own."""
    if query.prompt is not None or not query.messages or query.messages[-1].role != "user":
        return None
    before = [[message.role, message.content] for message in query.messages[:-1]]
    return _hash(["meaning", before, *_choices(query), *circumstances])


def files_of(students: Iterable[Student]) -> list[tuple[int, int]]:
    """Return size and time of change (nanoseconds) of every local file the students are made of, as it is now."""
    found: list[tuple[int, int]] = []
    for student in students:
        for source in (student.model.source, *student.model.adapters):
            path = Path(source.partition("#")[0])
            if not path.is_absolute():
                continue
            try:
                status = path.stat()
            except OSError:
                found.append((-1, -1))
            else:
                found.append((status.st_size, status.st_mtime_ns))
    return found


def draws_nothing(query: Query, students: Iterable[Student]) -> bool:
    """Say whether no student draws random tokens for a query, so that asking again brings the same."""
    chosen = [query.sampling.over(student.sampling) for student in students]
    return bool(chosen) and all(one.temperature == 0 or one.top_k == 1 for one in chosen)


def _choices(query: Query) -> list[object]:
    sampling = query.sampling
    return [
        query.api_key_name,
        query.model,
        query.complexity,
        query.strategy,
        query.students,
        query.domain,
        [getattr(sampling, name) for name in sampling.__slots__],
        query.top_logprobs,
        query.json_schema,
        query.grammar,
        query.refine,
    ]


def _hash(parts: Sequence[object]) -> str:
    # Not sorted: the order of a schema's properties is the order in which a student writes them.
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()
