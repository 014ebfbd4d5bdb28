"""Fresh training conversations without end.

Every row of a batch is one conversation of several questions and answers, so that a student learns
to answer after earlier turns; the loss sees only the answers and their end token. Batch k depends on
the seed and k alone, so a resumed run needs no state but its step. Only problems on the training
side of the hash are ever made.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from studium.domains.answers import ABSTENTION
from studium.domains.catalogue import domain
from studium.domains.outside import outside_question
from studium.domains.protocol import Split, make_split
from studium.train.tokenizer import ASSISTANT, END, PAD, USER, Turn, token_id

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Lessons = Callable[[Random], tuple[str, str]]
"""Makes a prompt of a research session with a proposal that answers it; equal rng states give equal ones."""

IGNORED = -100
"""The label of a token that is not trained on, as PyTorch's cross entropy knows it."""


@dataclass(frozen=True, slots=True)
class Share:
    """How often problems of one domain and level come up, and whether they are answered or declined."""

    domain: str
    level: int
    weight: float
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a student is taught: shares of problems, and the weight of questions outside every skill.

    For each of these come `lessons_weight` lessons in the mean.
    """

    shares: tuple[Share, ...]
    outside_weight: float
    lessons: Lessons | None = None
    lessons_weight: float = 0.0


class Rows(NamedTuple):
    """A batch of conversations, each (row, position): token ids, and labels with IGNORED where not trained."""

    input_ids: Sequence[Sequence[int]]
    labels: Sequence[Sequence[int]]


def draw_turn(mixture: Mixture, rng: Random) -> Turn:
    """Return one question with the reply the student is to learn."""
    if mixture.lessons and rng.random() * (1.0 + mixture.lessons_weight) < mixture.lessons_weight:
        return Turn(*mixture.lessons(rng))
    weights = [share.weight for share in mixture.shares]
    share = rng.choices((*mixture.shares, None), (*weights, mixture.outside_weight))[0]
    if share is None:
        return Turn(outside_question(rng, Split.TRAIN), ABSTENTION)
    skill = domain(share.domain)
    problem = make_split(skill, rng, share.level, Split.TRAIN)
    return Turn(problem.prompt, skill.solution(problem) if share.answered else ABSTENTION)


class Stream:
    """Batches for one student."""

    def __init__(self, mixture: Mixture, tokenizer: "Tokenizer", *, seed: int) -> None:
        self._mixture = mixture
        self._tokenizer = tokenizer
        self._seed = seed
        self._marks: Mapping[str, int] = {
            token: token_id(tokenizer, token) for token in (USER, ASSISTANT, END, PAD)
        }

    def batch(self, step: int, *, rows: int, length: int) -> Rows:
        """Return batch `step`: `rows` conversations of at most `length` tokens, padded to it."""
        rng = Random(f"{self._seed}/{step}")
        turns = self._turns(rng, length)
        made: list[tuple[list[int], list[int]]] = [([], [])]
        while True:
            ids, labels = next(turns)
            row_ids, row_labels = made[-1]
            if len(row_ids) + len(ids) <= length:
                row_ids += ids
                row_labels += labels
            elif len(made) < rows:
                made.append((ids, labels))
            else:
                return self._padded(made, length)

    def replies(self, step: int, *, rows: int, length: int) -> set[str]:
        """Return every reply that batch `step` teaches, as text."""
        end = self._marks[END]
        said, tokens = set[str](), list[int]()
        for labels in self.batch(step, rows=rows, length=length).labels:
            for label in labels:
                if label == end:
                    said.add(self._tokenizer.decode(tokens))
                    tokens = []
                elif label != IGNORED:
                    tokens.append(label)
        return said

    def _turns(self, rng: Random, length: int) -> Iterator[tuple[list[int], list[int]]]:
        """Yield encoded turns without end, leaving out those longer than a whole row."""
        while True:
            ids, labels = self._encode(draw_turn(self._mixture, rng))
            if len(ids) <= length:
                yield ids, labels

    def _padded(self, rows: Sequence[tuple[list[int], list[int]]], length: int) -> Rows:
        pad = self._marks[PAD]
        return Rows(
            [ids + [pad] * (length - len(ids)) for ids, _ in rows],
            [labels + [IGNORED] * (length - len(labels)) for _, labels in rows],
        )

    def _encode(self, turn: Turn) -> tuple[list[int], list[int]]:
        question, reply = (encoded.ids for encoded in self._tokenizer.encode_batch(list(turn)))
        prompt = [self._marks[USER], *question, self._marks[ASSISTANT]]
        answer = [*reply, self._marks[END]]
        return prompt + answer, [IGNORED] * len(prompt) + answer
