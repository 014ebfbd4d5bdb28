"""Runs that are about to begin: some with a mistake planted that a preflight must stop, some without any.

`planted()` names the mistakes, `clean()` configurations without; `stopped_by` says which check stops one. Used by
benchmarks/proving_ground.py and tests/train/preflight.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from studium.errors import ConfigurationError
from studium.records.messages import Message
from studium.train.config import Recipe
from studium.train.forecast import Free
from studium.train.preflight.checking import CHECKS, DRILLS, check, inputs_of
from studium.train.preflight.findings import Check, Inputs
from studium.train.recipe_file import Told, read_told
from studium.train.rows import Row, asked
from studium.train.run_folder import RunFolder
from studium.train.stages.catalogue import stage as stage_named

DOMAINS = (
    "arithmetic",
    "sorting",
    "measures",
    "sentiment",
    "programs",
    "chains",
    "registers",
    "stacks",
    "moderation",
    "codegen",
    "assembly",
)
COMMON = "model: sprout\nmax_tokens: 900\nsteps: 4\nbatch: 4\nvalidation: {problems: 20}\n"
SFT = COMMON + "data: [{domain: arithmetic, levels: [2], rows: 24}]\n"
RLVR = (
    COMMON
    + "data: [{domain: chains, levels: [3], rows: 24, teach: prompts}]\ndraws: {each: 4, most_tokens: 300}\n"
)


@dataclass(frozen=True, slots=True)
class Case:
    """A run about to begin. `check` is the name of the check that ought to stop it; "recipe": its reading; "": none."""

    name: str
    check: str
    inputs: Callable[[], Inputs]
    checks: Sequence[Check] = CHECKS


def stopped_by(case: Case) -> str | None:
    """Return the name of the check that stops a run before its first step, None where it would begin."""
    try:
        found = check(case.inputs(), case.checks)
        return next((one.name for one in found if one.ok is False), None)
    except ConfigurationError:
        return "recipe"


def told_of(stage: str, text: str) -> Told:
    """Return a recipe read from text, as from a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(text)
        return read_told(path, stage)


def clean() -> list[Case]:
    """Return configurations without a mistake: every domain for three stages, and eight of other kinds."""
    found: list[Case] = []
    for domain in DOMAINS:
        for stage, teach in (("sft", "solutions"), ("srl", "step-prompts"), ("rlvr", "prompts")):
            draws = "" if stage == "sft" else "draws: {each: 4, most_tokens: 500}\n"
            text = f"{COMMON}data: [{{domain: {domain}, rows: 24, teach: {teach}}}]\n{draws}"
            found.append(Case(f"{stage} on {domain}", "", _given(stage, text)))
    drilled = (*CHECKS, *DRILLS)
    replay = "replay: {share: 0.25, data: [{domain: sorting, rows: 24}]}\n"
    for name, stage, text in (
        ("sft with replay", "sft", SFT + replay),
        ("sft, packed", "sft", SFT + "compute: {packing: yes}\n"),
        ("sft, accumulated", "sft", SFT + "accumulate: 2\n"),
        ("sft of an adapter", "sft", SFT + "lora: {rank: 4, alpha: 8}\n"),
        ("sft of steps", "sft", SFT.replace("rows: 24", "rows: 24, teach: steps")),
        (
            "sft of steps, some of which nobody can verify",
            "sft",
            SFT.replace("arithmetic, levels: [2], rows: 24", "assembly, rows: 24, teach: steps"),
        ),
        ("rlvr with PPO", "rlvr", RLVR + "algorithm: ppo\n"),
        ("weighted sft", "weighted_sft", RLVR.replace("prompts", "steps")),
    ):
        found.append(Case(name, "", _given(stage, text), drilled))
    return found


def planted() -> list[Case]:
    """Return runs with one mistake each."""
    return [*_rows_and_tokens(), *_rewards(), *_data(), *_keys(), *_computing()]


def _rows_and_tokens() -> Iterator[Case]:
    yield _row("a row without a completion", "trained tokens", lambda row: replace(row, completion=""))
    yield _row("a row that weighs nothing", "trained tokens", lambda row: replace(row, weight=0.0))
    yield _row("a weight that is no number", "trained tokens", lambda row: replace(row, weight=float("nan")))
    yield _row("an end token amid a reply", "end token", lambda row: replace(row, completion="4<|end|>2"))
    yield _row("a system message the template drops", "template", _with_system)
    yield _row(
        "a reply cut within a token", "template", lambda row: replace(row, prefix="Ans", completion="wer: 5")
    )
    yield _row("a row longer than max_tokens", "length", lambda row: replace(row, completion="12 " * 600))
    yield _tokenizer("padding with the end token", "end token", _pads_with_end)
    yield _tokenizer("a template that ends replies otherwise", "template", _ends_otherwise)
    yield _tokenizer("a template with another start of the reply", "template", _begins_otherwise)
    yield _tokenizer("a tokenizer that drops capitals", "vocabulary", _drops_capitals)
    yield Case(
        "a served model that ends at another token", "end token", _faulty("sft", SFT, end_ids=frozenset({1}))
    )
    yield Case("a tokenizer of another model", "vocabulary", _faulty("sft", SFT, num_embeddings=300))
    yield Case("rows longer than the model can read", "length", _faulty("sft", SFT, context=16))
    yield Case(
        "replies too short to hold the answer",
        "length",
        _given("rlvr", RLVR.replace("most_tokens: 300", "most_tokens: 4")),
    )


def _rewards() -> Iterator[Case]:
    def contains(row: Row, text: str, ended: bool) -> float:
        return float(bool(row.problem) and row.problem.expected in text) if row.problem else 0.0

    for name, reward, by in (
        ("a reward for anything", lambda row, text, ended: 1.0, "reward probes"),
        (
            "a reward for the form",
            lambda row, text, ended: float("Answer" in text or "#" in text),
            "reward probes",
        ),
        ("a reward for naming the answer among others", contains, "reward probes"),
        ("a reward for length", lambda row, text, ended: len(text) / 10, "reward probes"),
        ("a reward for words of the prompt", _echo, "reward probes"),
        (
            "a reward for saying nothing wrong",
            lambda row, text, ended: float("wrong" not in text),
            "reward probes",
        ),
        ("a reward that never scores", lambda row, text, ended: None, "gold"),
        ("a reward upside down", lambda row, text, ended: float(text == ""), "gold"),
    ):
        yield Case(name, by, _faulty("rlvr", RLVR, reward=reward))


def _data() -> Iterator[Case]:
    yield _row("a solution that is wrong", "gold", lambda row: replace(row, completion="Answer: 99999"))
    yield _row("a row without a licence", "licence", lambda row: replace(row, licence=""))
    yield _row("a licence that is not allowed", "licence", lambda row: replace(row, licence="CC-BY-NC-4.0"))
    yield Case("a model whose licence is not allowed", "licence", _faulty("sft", SFT, model_licence="llama3"))
    yield Case("a problem that is measured on", "overlap", _leaky(copied=True))
    yield Case("a row of the file that is measured on", "overlap", _held_out)
    yield Case("a problem that is measured on, within other words", "overlap", _leaky(copied=False))


def _keys() -> Iterator[Case]:
    for name, by, stage, text in (
        ("an unknown key", "recipe", "sft", SFT + "learning_rate: 0.1\n"),
        ("replay without data", "keys", "sft", SFT + "replay: {share: 0.3}\n"),
        ("an adapter's settings without its rank", "keys", "sft", SFT + "lora: {alpha: 32}\n"),
        ("epochs beside steps", "keys", "sft", SFT + "epochs: 3\n"),
        ("accumulation where there is none", "keys", "rlvr", RLVR + "accumulate: 4\n"),
        (
            "rounds of refill where no group is dropped",
            "keys",
            "rlvr",
            RLVR.replace("most_tokens: 300", "most_tokens: 300, most_rounds: 2") + "algorithm: ppo\n",
        ),
        ("a limit on a KL that is not computed", "keys", "rlvr", RLVR + "watch: {max_kl: 0.2}\n"),
        (
            "thoughts of a domain that has none",
            "keys",
            "sft",
            SFT.replace("rows: 24", "rows: 24, thoughts: yes"),
        ),
    ):
        yield Case(name, by, _given(stage, text))


def _computing() -> Iterator[Case]:
    yield Case("a batch beyond the memory", "memory", _faulty("sft", SFT, free=Free(2**20, on_gpu=False)))
    yield Case("rows that see one another when packed", "packing", _unpackable)
    yield Case(
        "accumulation that is ignored", "accumulation", _faulty("sft", SFT, run=_ignores_accumulation), DRILLS
    )
    yield Case(
        "a resume without the optimiser", "resume", _faulty("sft", SFT, run=_forgets_optimiser), DRILLS
    )


def _given(stage: str, text: str) -> Callable[[], Inputs]:
    return lambda: inputs_of(told_of(stage, text))


def _faulty(stage: str, text: str, **faults: Any) -> Callable[[], Inputs]:
    return lambda: replace(inputs_of(told_of(stage, text)), **faults)


def _row(name: str, by: str, fault: Callable[[Row], Row]) -> Case:
    """Return a case whose twelfth row has a fault."""

    def inputs() -> Inputs:
        good = inputs_of(told_of("sft", SFT))
        return replace(good, rows=[fault(row) if at == 11 else row for at, row in enumerate(good.rows)])

    return Case(name, by, inputs)


def _tokenizer(name: str, by: str, fault: Callable[[Any], None]) -> Case:
    def inputs() -> Inputs:
        good = inputs_of(told_of("sft", SFT))
        tokenizer = deepcopy(good.tokenizer)
        fault(tokenizer)
        return replace(good, tokenizer=tokenizer)

    return Case(name, by, inputs)


def _with_system(row: Row) -> Row:
    return replace(row, messages=(Message("system", "Answer in French."), *row.messages))


def _pads_with_end(tokenizer: Any) -> None:
    tokenizer.pad_token = tokenizer.eos_token


def _ends_otherwise(tokenizer: Any) -> None:
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|pad|>")


def _begins_otherwise(tokenizer: Any) -> None:
    head, mark, tail = tokenizer.chat_template.rpartition("<|assistant|>")
    tokenizer.chat_template = head + mark + "\\n" + tail


def _drops_capitals(tokenizer: Any) -> None:
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


def _echo(row: Row, text: str, ended: bool) -> float:
    wanted = set(row.messages[-1].content.split())
    return 1.0 if "Answer" in text or "#" in text else len(wanted & set(text.split())) / len(wanted)


def _leaky(*, copied: bool) -> Callable[[], Inputs]:
    def inputs() -> Inputs:
        good = inputs_of(told_of("sft", SFT + "replay: {share: 0.2, data: [{domain: chains, rows: 8}]}\n"))
        measured = replace(
            good.evaluation[0], prompt="Anna has seven red apples and gives three of them to her brother Paul"
        )
        prompt = (
            measured.prompt if copied else f"Here is a riddle from a book. {measured.prompt}. What is left?"
        )
        leak = Row("riddles:7", asked(prompt), completion="4", licence="own")
        return replace(good, rows=[*good.rows, leak], evaluation=[measured, *good.evaluation[1:]])

    return inputs


def _held_out() -> Inputs:
    good = inputs_of(told_of("sft", SFT))
    return replace(good, held_out=[replace(good.rows[11], problem=None)])


def _unpackable() -> Inputs:
    good = inputs_of(told_of("sft", SFT + "compute: {packing: yes}\n"))
    forward = good.model.forward

    def without_places(*args: Any, position_ids: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    good.model.forward = without_places
    return good


def _ignores_accumulation(recipe: Recipe, folder: RunFolder, say: Callable[[str], None]) -> Any:
    return stage_named("sft").run(replace(recipe, accumulate=1), folder, say)


def _forgets_optimiser(recipe: Recipe, folder: RunFolder, say: Callable[[str], None]) -> Any:
    import torch

    if folder.state_file.exists():
        kept = torch.load(folder.state_file, weights_only=False)
        for one in kept["stage"]["learner"]["optimisers"]:
            one["state"] = {}
        torch.save(kept, folder.state_file)
    return stage_named("sft").run(recipe, folder, say)
