"""Who is evaluated, and how it is asked: a student, the whole ensemble, or a model file as training leaves it.

A student is asked in its seat, where its system prompt, sampling and chat template are put as in serving; a Studium
that serves the workspace is asked through its endpoint, so that two do not compete for memory.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studium.cli.running import post, running_server
from studium.errors import BadRequest, ConfigurationError
from studium.records.messages import Ask, Message, Reply, Sampling
from studium.records.scheduling import Priority

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.config import Config
    from studium.evals.grading import Forced, Said
    from studium.evals.items import Item
    from studium.evals.runner import Force, Judge, Try, Way
    from studium.records.models import Student

_MOST_CONTEXT_TOKENS, _USUAL_CONTEXT_TOKENS = 4096, 1024
_IN_CHECKPOINT = ("model.gguf", "checkpoint/model.gguf")
_UNFIT = re.compile(r"[^a-z0-9_-]+")
_REFERENCE_TOKENS_MOST = 2048


@dataclass(frozen=True, slots=True)
class Choice:
    """What the caller chose: how long one answer may take, who judges, and whether references are measured."""

    model: str
    timeout_s: float
    judge: str = ""
    perplexity: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked: the name and the fingerprint of what it is now ("" for the ensemble), and the way."""

    model: str
    fingerprint: str
    way: "Way"


def model_file(name: str) -> Path | None:
    """Return the GGUF file a name leads to: itself, or that of a checkpoint or run folder; None: it is a student.

    Raises BadRequest for a path that leads to none.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        found = next((path / inside for inside in _IN_CHECKPOINT if (path / inside).is_file()), None)
        if found is None:
            raise BadRequest(
                f"the folder {path} holds no model.gguf",
                expected="a checkpoint folder, a run folder with checkpoint/model.gguf, or a GGUF file",
                try_next="finish the training run, or export its checkpoint",
            )
        return found.resolve()
    if path.suffix == ".gguf" or "/" in name:
        if not path.is_file():
            raise BadRequest(f"there is no file {path}", expected="a GGUF file, or a student's name")
        return path.resolve()
    return None


def with_file(config: "Config", file: Path) -> tuple["Config", str]:
    """Return a configuration whose roster also has the model of a file, and the name it has there.

    Raises BadRequest where the file is no GGUF file.
    """
    from studium.config import ModelConfig, StudentConfig
    from studium.engines.gguf_metadata import BrokenGguf, read_gguf
    from studium.registry import LLAMACPP, build_roster

    try:
        metadata = read_gguf(file).metadata
    except BrokenGguf as error:
        raise BadRequest(f"{file} cannot be read as GGUF: {error}", expected="a whole GGUF file") from error
    trained = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    context = (
        min(trained, _MOST_CONTEXT_TOKENS)
        if isinstance(trained, int) and trained > 0
        else _USUAL_CONTEXT_TOKENS
    )
    taken = build_roster(config).students
    name = _name_of(file)
    name = f"{name}-file" if name in taken else name
    model = ModelConfig(name=name, engine=LLAMACPP, source=str(file), context_tokens=context)
    keeps_embedded = config.embedded_students or not config.students
    return (
        replace(
            config,
            models=(*config.models, model),
            students=(*config.students, StudentConfig(name=name)),
            embedded_students=keeps_embedded,
        ),
        name,
    )


@asynccontextmanager
async def asking(config: "Config", choice: Choice) -> AsyncIterator[Asked]:
    """Open the workspace until the block ends, and say who is asked. Raises UnknownModel, ConfigurationError."""
    from studium.app import open_studium
    from studium.evals.runner import Way
    from studium.serve.team.team import VIRTUAL_MODELS

    file = model_file(choice.model)
    name = choice.model
    if file is not None:
        config, name = with_file(config, file)
    served = running_server(config.workspace) if file is None and not choice.perplexity else None
    async with open_studium(config) as studium:
        student = None if name in VIRTUAL_MODELS else studium.ensemble.team.student(name)
        if student is None and choice.perplexity:
            raise ConfigurationError(
                f"perplexity is of one model, and {name} is several",
                expected="the name of a student, or a file",
            )
        way = Way(
            _through(served, name, choice.timeout_s)
            if served
            else spoken_here(studium, student, name, choice.timeout_s),
            force=_forcing(studium, student, choice.timeout_s) if student and choice.perplexity else None,
            judge=_judging(studium, choice) if choice.judge else None,
            timeout_s=choice.timeout_s,
        )
        yield Asked(name, studium.history.models[student.name] if student else "", way)


async def said_in_seat(studium: "Studium", student: "Student", ask: Ask) -> Reply:
    """Return what a student says, its prompt and sampling applied as in serving; evaluations wait for people."""
    from studium.errors import StudiumBug

    wanted = studium.fleet.seat(student, timeout_s=ask.timeout_s + 60.0, priority=Priority.EVALUATION)
    async with wanted as seat:
        async for piece in seat.generate(ask):
            if isinstance(piece, Reply):
                return piece
    raise StudiumBug(f"{student.name} ended without a reply")


def spoken_here(studium: "Studium", student: "Student | None", name: str, timeout_s: float) -> Any:
    from studium.evals.grading import Said
    from studium.records.answers import Query

    async def one(asked: "Try") -> "Said":
        assert student is not None
        messages = (Message("user", asked.item.question),)
        ask = Ask(messages=messages, sampling=asked.sampling, timeout_s=timeout_s, live=False)
        reply = await said_in_seat(studium, student, ask)
        return Said(reply.text, reply.seconds, reply.completion_tokens)

    async def together(asked: "Try") -> "Said":
        query = Query(
            messages=(Message("user", asked.item.question),),
            model=name,
            sampling=asked.sampling,
            timeout_s=timeout_s,
            cache=False,
            refine=False,
        )
        answer = await studium.ensemble.answer(query)
        return Said(answer.text, answer.seconds, answer.completion_tokens)

    return one if student else together


def _through(url: str, name: str, timeout_s: float) -> Any:
    from studium.evals.grading import Said

    async def ask(asked: "Try") -> "Said":
        body = {"question": asked.item.question, "model": name, "timeout_s": timeout_s}
        body |= {"cache": False, "refine": False, "temperature": asked.sampling.temperature}
        body |= {"seed": asked.sampling.seed} if asked.sampling.seed is not None else {}
        told = await asyncio.to_thread(post, url, "/api/ask", body)
        return Said(told["text"], told["seconds"], told["usage"]["completion_tokens"])

    return ask


def _forcing(studium: "Studium", student: "Student", timeout_s: float) -> "Force":
    """Return what measures a reference's log-probability: the model is held to it by a grammar of that text alone.

    The engine reports probabilities as they were before the grammar. The end token is not among them, and where a text
    can be written in several tokens, those count that the model itself prefers.
    """
    from studium.evals.grading import Forced

    able = studium.fleet.engines[student.model.engine].capabilities
    if not (able.grammar and able.logprobs):
        raise ConfigurationError(
            f"the engine of {student.name} cannot be held to a text and say how likely it was",
            expected="a model that llama.cpp runs here",
            try_next="leave perplexity out",
        )

    async def force(item: "Item") -> "Forced | None":
        ask = Ask(
            messages=(Message("user", item.question),),
            sampling=Sampling(temperature=0.0, max_tokens=_REFERENCE_TOKENS_MOST),
            grammar=literal_grammar(item.reference),
            top_logprobs=0,
            timeout_s=timeout_s,
            live=False,
        )
        reply = await said_in_seat(studium, student, ask)
        if reply.text != item.reference or not reply.logprobs:
            return None
        return Forced(sum(token.logprob for token in reply.logprobs), len(reply.logprobs))

    return force


def _judging(studium: "Studium", choice: Choice) -> "Judge":
    from studium.evals.judging import as_good_as
    from studium.serve.judging.forms import can_be_shown, read_verdict, verdict_ask

    judge = studium.ensemble.team.student(choice.judge)
    able = studium.fleet.engines[judge.model.engine].capabilities
    if not can_be_shown(judge, 2):
        raise ConfigurationError(
            f"{judge.name} has a context of {judge.model.context_tokens:,} tokens",
            expected="room for a question and two answers",
            try_next="name another --judge, or give its model more context_tokens",
        )

    async def verdict(question: str, first: str, second: str) -> str | None:
        ask = verdict_ask(judge, able, question, (first, second), choice.timeout_s)
        return read_verdict((await said_in_seat(studium, judge, ask)).text)

    async def score(item: "Item", reply: str) -> float | None:
        return await as_good_as(item.question, reply, item.reference, verdict)

    return score


def literal_grammar(text: str) -> str:
    """Return the grammar (GBNF) of one text and no other."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'root ::= "{escaped}"'


def _name_of(file: Path) -> str:
    """Return a name for people: that of the run where the file is a run's checkpoint."""
    folder = file.parent.parent if file.parent.name == "checkpoint" else file.parent
    word = folder.name if file.stem == "model" else file.stem
    return _UNFIT.sub("-", word.lower()).strip("-_")[:40] or "model"
