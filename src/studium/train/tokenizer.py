"""The embedded students' tokenizer: byte-level BPE with single digits, and the chat template.

The pre-tokenizer is the one llama.cpp calls "smollm" (digits one by one, then byte-level), so GGUF
files need no special handling. A conversation is written without role words, one token per role:

    <|user|>What is 2 + 2?<|assistant|>2+2=4 ... <|end|><|user|>...

System messages are left out: these models are their weights.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from studium.domains.answers import ABSTENTION
from studium.domains.catalogue import skills
from studium.domains.outside import outside_question
from studium.domains.protocol import Split, make_split

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = (PAD, USER, ASSISTANT, END)
VOCABULARY_SIZE = 768
VOCABULARY = Path(__file__).with_name("vocabulary.json")
# llama.cpp prepends system messages to the question unless a template reads them: this one reads
# them and prints nothing.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{%- set unused = message['content'] | length -%}"
    "{%- elif message['role'] == 'user' -%}{{ '<|user|>' + message['content'] }}"
    "{%- elif message['role'] == 'assistant' -%}{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


class Turn(NamedTuple):
    """A question and the reply to it."""

    question: str
    reply: str


def new_tokenizer() -> "Tokenizer":
    """Return an untrained tokenizer with the pre-tokenization of "smollm"."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(texts: Iterable[str], *, vocabulary_size: int = VOCABULARY_SIZE) -> "Tokenizer":
    """Return a tokenizer trained on `texts`; equal texts give an equal tokenizer."""
    from tokenizers import pre_tokenizers, trainers

    tokenizer = new_tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def student_tokenizer(path: Path = VOCABULARY) -> "Tokenizer":
    """Return the tokenizer all embedded students share, from `path` where it exists, else trained and kept.

    The shipped vocabulary stays as it is when domains change their wording, so that students made at
    different times read alike; delete the file to train another.
    """
    from tokenizers import Tokenizer

    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = train_tokenizer(_corpus(Random("tokenizer")))
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return tokenizer


def token_id(tokenizer: "Tokenizer", token: str) -> int:
    """Return the id of a token that must exist."""
    identity = tokenizer.token_to_id(token)
    assert identity is not None, token
    return identity


def prompt_text(question: str, earlier: Sequence[Turn] = ()) -> str:
    """Return a conversation up to where the student speaks, exactly as the chat template renders it."""
    said = "".join(f"{USER}{turn.question}{ASSISTANT}{turn.reply}{END}" for turn in earlier)
    return f"{said}{USER}{question}{ASSISTANT}"


def _corpus(rng: Random) -> Iterable[str]:
    """Yield training problems, their solutions and questions outside, in the measure students meet them."""
    for domain in skills().values():
        for level in domain.levels:
            for _ in range(1500):
                problem = make_split(domain, rng, level, Split.TRAIN)
                yield problem.prompt
                yield domain.solution(problem)
    for _ in range(6000):
        yield outside_question(rng, Split.TRAIN)
        yield ABSTENTION
