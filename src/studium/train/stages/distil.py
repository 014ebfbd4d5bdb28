"""Distillation: a smaller student learns from a teacher's traces, by their text or by its log-probabilities.

`learn: text` is SFT on the teacher's replies, kept where the domain verifies them (rejection sampling). `learn:
logprobs` makes the student's distribution that of the teacher at every token of the trace: forward KL over the
teacher's likeliest tokens and the rest as one (Hinton et al. 2015, arXiv 1503.02531, without temperature; word-level
distillation of Kim and Rush 2016, arXiv 1606.07947, section 3.1). Teacher and student must then share a vocabulary.

Prompts are `teach: prompts` of a domain, or files: without `teacher`, their lines are the traces. `then` names further
students: each learns from the one before it, so that bronze teaches silver and silver gold. What is drawn is kept in
`traces.jsonl`, so that a run taken up again learns from the same.

Axes: B rows, T targets, K likeliest tokens, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from studium.config.kinds import Choice, Whole
from studium.config.schema import Plain
from studium.errors import ConfigurationError
from studium.train.carry_out import data_hash
from studium.train.config import Source
from studium.train.course import Checkpoint, RowLoss
from studium.train.data import rows_of
from studium.train.given import Outset, carry_out_given
from studium.train.learner import Learner
from studium.train.models import load
from studium.train.row_stage import (
    Told,
    check_length,
    encoded_rows,
    needs_rows,
    share_beside,
    share_within,
    steps_of,
)
from studium.train.rows import Encoded, Row, prompt_ids
from studium.train.run_folder import RunFolder, State, Status
from studium.train.stages.sft import SftLoss
from studium.train.teaching import (
    SERVED,
    Drawn,
    ModelTeacher,
    Top,
    Trace,
    endpoint_teacher,
    read_traces,
    same_tokens,
    traces_of,
    with_logprobs,
    write_traces,
)
from studium.train.trl_bridge import GivenRecipe, OldRows, precision, prepare

if TYPE_CHECKING:
    import torch

TRACES = "traces.jsonl"


@dataclass(frozen=True, slots=True)
class Options(GivenRecipe):
    """A recipe for distillation. `teacher`: a model as `model` is, or "http://HOST/v1#MODEL"; "" for files of traces.

    `likeliest` tokens of the teacher are learned at each place, the rest as one.
    """

    teacher: Plain = ""
    learn: Annotated[str, Choice(("text", "logprobs"))] = "text"
    likeliest: Annotated[int, Whole(1, 1000)] = 16
    drawn: Drawn = field(default_factory=Drawn)
    then: tuple[Plain, ...] = ()


def run(options: Options, folder: RunFolder, say: Callable[[str], None]) -> Checkpoint:
    """Train one student after the other; blocks. The checkpoint is the last one's."""
    if options.then:
        rows = [*rows_of(options.data), *rows_of(options.replay.data)]
        folder.begin("distil", options, data_hash(rows))
    teacher, students = options.teacher, (options.model, *options.then)
    for at, student in enumerate(students[:-1], start=1):
        link = replace(options, model=student, teacher=teacher, then=())
        part = _Link(folder, at, len(students))
        if part.status().state is not State.DONE:
            say(f"{at} of {len(students)}: {student} learns from {teacher or 'the traces'}")
            ended = _learn(link, part, say)
            if ended.folder is None:
                return ended
        teacher = str(part.checkpoint)
    return _learn(options, folder, say, student=students[-1], teacher=teacher)


def _learn(
    options: Options, folder: RunFolder, say: Callable[[str], None], *, student: str = "", teacher: str = ""
) -> Checkpoint:
    """Train one student; `student` and `teacher` stand in for the recipe's, at the end of a chain."""
    whole = options
    options = replace(options, model=student or options.model, teacher=teacher or options.teacher, then=())
    prompts, old_rows = rows_of(options.data), rows_of(options.replay.data)
    needs_rows("distil", prompts)
    traces = _traces(options, folder, prompts, say)
    needs_rows("distil", traces)
    by_text = options.learn == "text"
    share = (share_within if by_text else share_beside)(options, len(old_rows))
    outset = Outset(options, steps_of(options, len(traces), share), told=whole)
    loss: Any
    fresh: Sequence[Any]
    if by_text:
        tokenizer = outset.loaded.tokenizer
        fresh = encoded_rows(tokenizer, [one.row for one in traces], options.max_tokens)
        loss = SftLoss(outset.learner, options)
    else:
        fresh = [_encoded(outset, trace) for trace in traces]
        loss = KlLoss(outset.learner, options, share=options.replay.share)
    # The prompts name the data: traces follow from them, teacher and seed.
    return carry_out_given("distil", outset, loss, fresh, share, prompts, old_rows, folder, say)


def _traces(
    options: Options, folder: RunFolder, prompts: Sequence[Row], say: Callable[[str], None]
) -> list[Trace]:
    """Return the traces to learn from: those of files, those kept from before, or new ones, which are kept."""
    if not options.teacher:
        if any(source.domain for source in options.data):
            raise ConfigurationError(
                "problems of a domain are no traces, and there is no teacher",
                expected="'teacher', or files of traces as 'data'",
                try_next="set teacher: NAME, PATH, or http://HOST/v1#MODEL",
            )
        return read_traces(options.data)
    kept = folder.path / TRACES
    if kept.exists():
        return read_traces((Source(file=str(kept), rows=0),))
    traces = _drawn(options, prompts)
    say(f"{options.teacher} gave {len(traces)} traces to {len(prompts)} prompts")
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_traces(traces, kept)
    return read_traces((Source(file=str(kept), rows=0),)) if traces else []


def _drawn(options: Options, prompts: Sequence[Row]) -> list[Trace]:
    if options.teacher.startswith(SERVED):
        if options.learn != "text":
            raise ConfigurationError(
                "a served teacher gives text, no log-probabilities over the student's tokens",
                expected="learn: text",
                try_next="set learn: text, or name a teacher that can be loaded",
            )
        return traces_of(endpoint_teacher(options.teacher), prompts, options.drawn, options.seed)
    loaded = load(options.teacher)
    traces = traces_of(ModelTeacher(loaded), prompts, options.drawn, options.seed)
    if options.learn == "text":
        return traces
    if not same_tokens(loaded, load(options.model)):
        raise ConfigurationError(
            f"{options.teacher} and {options.model} have different vocabularies",
            expected="the same tokens, to learn log-probabilities",
            try_next="set learn: text",
        )
    return with_logprobs(traces, loaded, options.likeliest)


class _Link(RunFolder):
    """The folder of one student of a chain, inside the run's: stopped with it, and shown as it."""

    def __init__(self, whole: RunFolder, number: int, links: int) -> None:
        super().__init__(Path(whole.path) / f"student-{number}")
        self._whole = whole
        self._name = f"student {number} of {links}"

    @property
    def asked_to_stop(self) -> bool:
        return self._whole.asked_to_stop or super().asked_to_stop

    def say(self, status: Status) -> None:
        super().say(status)
        state = State.RUNNING if status.state is State.DONE else status.state
        self._whole.say(replace(status, state=state, message=status.message or self._name))


class EncodedTrace(NamedTuple):
    """A trace as tokens, and what the teacher held likeliest at each token of the reply."""

    row_id: str
    prompt: Sequence[int]
    reply: Sequence[int]
    top: Sequence[Top]


def _encoded(outset: Outset, trace: Trace) -> EncodedTrace:
    if not trace.top:
        raise ConfigurationError(
            f"the trace {trace.row.id} has no log-probabilities",
            expected="'tokens' and 'top' in every trace",
            try_next="set learn: text",
        )
    prompt = prompt_ids(outset.loaded.tokenizer, trace.row)
    check_length(trace.row.id, len(prompt) + len(trace.tokens), outset.options.max_tokens)
    return EncodedTrace(trace.row.id, prompt, trace.tokens, trace.top)


class KlLoss:
    """Forward KL from the teacher's likeliest tokens, the rest as one, to the student's; mean over a step's tokens."""

    def __init__(self, learner: Learner, recipe: GivenRecipe, *, share: float) -> None:
        prepare(learner.model, recipe.compute)
        self._model, self._compute, self._batch = learner.model, recipe.compute, recipe.batch
        self._share = share
        self._old = OldRows(learner, recipe)
        self._pad = int(learner.loaded.tokenizer.pad_token_id or 0)  # pyright: ignore[reportArgumentType]

    def parts(
        self, fresh: Sequence[EncodedTrace], old: Sequence[Encoded], told: Told
    ) -> "Iterator[torch.Tensor]":
        import torch

        own = 1 - self._share if old else 1.0
        targets = sum(len(one.reply) for one in fresh)
        for first in range(0, len(fresh), self._batch):
            part = fresh[first : first + self._batch]
            losses = self._losses(part)
            told.rows += [
                RowLoss(one.row_id, float(loss.detach().mean()))
                for one, loss in zip(part, losses, strict=True)
            ]
            yield own * torch.cat(losses).sum() / targets
        for loss in self._old.parts(old, told):
            yield self._share * loss

    def _losses(self, traces: Sequence[EncodedTrace]) -> "list[torch.Tensor]":
        """Return each trace's KL at each token of its reply."""
        import torch

        most = max(len(one.prompt) + len(one.reply) for one in traces)
        whole = [[*one.prompt, *one.reply] for one in traces]
        device = self._model.device
        ids_BS = torch.tensor([[*one, *[self._pad] * (most - len(one))] for one in whole], device=device)
        seen_BS = torch.tensor([[1] * len(one) + [0] * (most - len(one)) for one in whole], device=device)
        with precision(self._model, self._compute):
            logits_BTV = self._model(input_ids=ids_BS, attention_mask=seen_BS, use_cache=False).logits
        found: list[torch.Tensor] = []
        for at, one in enumerate(traces):
            start = len(one.prompt) - 1
            logprobs_TV = logits_BTV[at, start : start + len(one.reply)].float().log_softmax(-1)
            ids_TK = torch.tensor([top.ids for top in one.top], device=device)
            teacher_TK = torch.tensor([top.logprobs for top in one.top], device=device)
            found.append(kl_of_likeliest(teacher_TK, logprobs_TV.gather(-1, ids_TK)))
        return found


def kl_of_likeliest(teacher_TK: "torch.Tensor", student_TK: "torch.Tensor") -> "torch.Tensor":
    """Return KL(teacher, student) per place, in nats, over given tokens and all others as one.

    Both hold log-probabilities of the same tokens. It is at most the KL over all tokens, and 0 where both agree.
    """
    shown_T = (teacher_TK.exp() * (teacher_TK - student_TK)).sum(-1)
    # Rounding may leave a little less than nothing for the others.
    rest_T = (1 - teacher_TK.exp().sum(-1)).clamp(min=1e-9)
    student_rest_T = (1 - student_TK.exp().sum(-1)).clamp(min=1e-9)
    return shown_T + rest_T * (rest_T.log() - student_rest_T.log())
