"""The proving ground's cells: a student of 0.18 million parameters, trained stage by stage by the product's own stages.

A base knows drills of up to four steps, the old skill, and has never seen their operation `@`: four steps of it are the
hard set. Who shows it the operation remembers 8 of its 20 facts wrongly six times in ten, so that imitation alone
stays below: traces are cheap and flawed, verified answers are not. Every rung is a stage of Studium with a recipe that
stands here, begun from the rung below it; what each knows is measured on problems no rung was trained on or chosen by
(`measure`). A cell that is done is not done again. Why it is so: docs/decisions/0022.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from studium.domains.catalogue import domain as domain_named
from studium.domains.drills import PARTNERS, Calculate, Drill, calculate
from studium.domains.protocol import Problem, Split, make_split
from studium.train.config import Optimiser, Replay, Source, Validation
from studium.train.course import Checkpoint
from studium.train.data import GENERATED, problems_of, rows_of
from studium.train.models import Loaded, load, save, wrapped
from studium.train.preferences.maker import Making, make
from studium.train.preferences.pairs import write_pairs
from studium.train.rl.options import Draws, Objective
from studium.train.rl.rewards import StepVerified
from studium.train.rl.rollouts import Drawing, Roller
from studium.train.rl.samplers import ModelSampler
from studium.train.rows import with_completion
from studium.train.run_folder import RunFolder, State
from studium.train.solving import Solver
from studium.train.stages.catalogue import stage
from studium.train.students.pretraining import Schedule, Shape, new_model, train
from studium.train.students.stream import Mixture, Share, Stream
from studium.train.tokenizer import train_tokenizer

OLD_LEVELS, HARD_LEVEL = (1, 2, 3, 4), 14
SHAPE = Shape(width=64, layers=3, heads=4, inner=192, vocabulary=0, context_tokens=512)
REPLY_TOKENS, STEP_TOKENS = 160, 40
# RLVR ends at this validation score, half hard and half old problems by their answers: about 80 % of the hard ones have
# every step right (an answer needs fewer of them where registers are left unread). It would go on to solve nearly all,
# which left nothing for the rung above it to show.
ENOUGH = {"chains": 0.9, "registers": 0.97, "stacks": 0.94}
FACTS_WRONG, WRONG_AT = 8, 0.6
# SFT's share of old skills, and that of the rungs above, which are begun by who knows both.
REPLAYED, REPLAYED_ABOVE = 0.6, 0.75
# Where a step restates all that is left, or every register, what to read for it is learned in more steps of the base
# and of SFT.
LONGER = {"registers": (1.33, 1.8), "stacks": (1.33, 1.8)}
# How strongly RLVR is held to the student it began with: without it a seed in two loses 2 % of the old skill.
KL = 0.3


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: the full size, or one of minutes for tests."""

    base_steps: int = 900
    sft_steps: int = 500
    rlvr_steps: int = 150
    dpo_steps: int = 240
    srl_steps: int = 150
    problems: int = 1000
    traces: int = 500
    prompts: int = 5000
    old_rows: int = 4000
    pairs_prompts: int = 2000


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model knows: counts of problems whose every step was right (old: of which the answer was)."""

    asked: int
    hard: int
    hard_sampled: int
    hard_answer: int
    pass_at_8: int
    pass_asked: int
    old: int
    old_sampled: int


@dataclass(frozen=True, slots=True)
class Ground:
    """One domain and seed, with its folder; methods make the rungs. `processor_s` of each is in its result."""

    domain: str
    seed: int
    folder: Path
    size: Size
    hard_level: int = HARD_LEVEL

    def base(self) -> Path:
        """Train the base from nothing on the old levels; return its folder."""
        return self._once("base", self._train_base)

    def sft(self, name: str = "sft", start: str = "base") -> Path:
        """Imitate flawed traces of the hard set, most of every batch old skills."""
        return self._stage(
            name,
            "sft",
            start,
            data=(Source(file=str(self._traces()), rows=0),),
            batch=48,
            steps=round(self.size.sft_steps * self._longer[1]),
            rate=1e-3,
            warmup_steps=10,
        )

    def rlvr(self, name: str = "rlvr", start: str = "sft", **options: Any) -> Path:
        """Reward every verified step, on fresh prompts, until most of the hard problems are solved."""
        return self._stage(
            name,
            "rlvr",
            start,
            data=(self._source(rows=self.size.prompts, teach="step-prompts", seed=self.seed + 100),),
            reward="steps",
            steps=self.size.rlvr_steps,
            rate=1.5e-4,
            validate_every=5,
            enough=ENOUGH[self.domain],
            replayed=REPLAYED_ABOVE,
            objective=Objective(kl=KL),
            draws=step_draws(),
            **options,
        )

    def random_rewards(self) -> Path:
        """The control: the same steps with rewards that know nothing."""
        return self.rlvr("random", control="random")

    def srl(self, name: str = "srl", start: str = "sft", **options: Any) -> Path:
        """Reward likeness to the expert's next step: an expert without gaps, unlike the one SFT imitated."""
        return self._stage(
            name,
            "srl",
            start,
            data=(self._source(rows=self.size.traces, teach="step-prompts", seed=self.seed),),
            steps=self.size.srl_steps,
            rate=1e-3,
            draws=step_draws(),
            **options,
        )

    def dpo(self, name: str = "dpo", start: str = "rlvr") -> Path:
        """Prefer right own steps to wrong own ones, the right ones' likelihood added."""
        pairs = self._pairs(name, start)
        return self._stage(
            name,
            "dpo",
            start,
            data=(Source(file=str(pairs), rows=0),),
            sft=1.0,
            replayed=REPLAYED_ABOVE,
            steps=self.size.dpo_steps,
            rate=5e-4,
            validate_every=20,
            allow=("length-bias",),
        )

    def rejection_sampled(self) -> Path:
        """The control: as many own steps as RLVR draws, the right ones learned by SFT."""
        return self._stage(
            "rejection",
            "sft",
            "sft",
            data=(Source(file=str(self._kept_steps()), rows=0),),
            batch=64,
            steps=self.size.rlvr_steps,
            rate=5e-4,
        )

    def result(self, name: str) -> dict[str, Any]:
        """Return what a rung measured, measuring it if that was not done yet."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            path.write_text(
                json.dumps(
                    asdict(measure(load(str(self._checkpoint(name))), self.domain, self.size.problems))
                )
            )
        halted = (self.folder / f"{name}.halted").exists()
        return json.loads(path.read_text()) | {"seconds": self._seconds(name), "halted": halted}

    @property
    def _longer(self) -> tuple[float, float]:
        return LONGER.get(self.domain, (1.0, 1.0))

    # --- how --------------------------------------------------------------------------------------

    def _stage(self, name: str, kind: str, start: str, **options: Any) -> Path:
        recipe = self._recipe(kind, start, **options)

        def carry_out() -> None:
            made: Checkpoint = stage(kind).run(recipe, RunFolder(self.folder / name), lambda line: None)
            if made.ended.state is State.HALTED:
                # Nothing came of it: who was trained stays who it was.
                shutil.copytree(self._checkpoint(start), self._checkpoint(name))
                (self.folder / f"{name}.halted").write_text(str(made.ended.step))
                return
            assert made.folder is not None, made.ended

        return self._once(name, carry_out)

    def _recipe(
        self,
        kind: str,
        start: str,
        *,
        rate: float,
        batch: int = 32,
        warmup_steps: int = 5,
        validate_every: int = 40,
        enough: float = 0.0,
        replayed: float = REPLAYED,
        **options: Any,
    ) -> Any:
        """Return a stage's recipe with what all rungs share: old skills replayed, and validation on both levels."""
        old = self._source(levels=OLD_LEVELS, rows=self.size.old_rows, seed=self.seed + 50)
        if options.get("thinks"):
            old = replace(old, rows=self.size.old_rows // 4, teach="steps", thoughts=True)
        kept_apart = (self._source(rows=200), self._source(levels=OLD_LEVELS, rows=200))
        return stage(kind).options(
            model=str(self._checkpoint(start)),
            seed=self.seed,
            batch=batch,
            max_tokens=REPLY_TOKENS,
            optimiser=Optimiser(rate=rate, warmup_steps=warmup_steps),
            replay=Replay(replayed, (old,)),
            validation=Validation(every_steps=validate_every, problems=400, data=kept_apart, enough=enough),
            **options,
        )

    def _once(self, name: str, work: Callable[[], None]) -> Path:
        """Do what is not done yet, and note the processor seconds it took."""
        noted = self.folder / f"{name}.seconds"
        if not noted.exists():
            began = time.process_time()
            work()
            noted.write_text(str(round(time.process_time() - began, 1)))
        return self._checkpoint(name)

    def _checkpoint(self, name: str) -> Path:
        return self.folder / name / "checkpoint"

    def _seconds(self, name: str) -> float:
        return float((self.folder / f"{name}.seconds").read_text())

    def _source(
        self, *, rows: int, levels: tuple[int, ...] = (), seed: int = 1, teach: str = "solutions"
    ) -> Source:
        """Return a source of problems; of the hard level, where none is named."""
        return Source(
            domain=self.domain, levels=levels or (self.hard_level,), rows=rows, seed=seed, teach=teach
        )

    def _traces(self) -> Path:
        """Write down what somebody shows who remembers some facts wrongly, and goes on from what they found."""
        path = self.folder / "traces.jsonl"
        problems = problems_of(self._source(rows=self.size.traces, seed=self.seed), side=Split.TRAIN)
        teacher, drill = misremembering(Random(f"teacher/{self.seed}")), domain_named(self.domain)
        assert isinstance(drill, Drill)
        with path.open("w") as out:
            for problem in problems:
                steps, answer = drill.work(problem.key, teacher)
                said = "\n".join([*(step.text for step in steps), f"Answer: {answer}"])
                line = {"id": problem.key, "prompt": problem.prompt, "completion": said, "licence": GENERATED}
                out.write(json.dumps(line) + "\n")
        return path

    def _train_base(self) -> None:
        tokenizer = train_tokenizer(self._texts(), vocabulary_size=280)
        shape = Shape(**{**asdict(SHAPE), "vocabulary": tokenizer.get_vocab_size()})
        model = new_model(shape, seed=self.seed)
        mixture = Mixture(
            tuple(Share(self.domain, level, 1 + level / 2) for level in OLD_LEVELS), outside_weight=0.0
        )
        steps = round(self.size.base_steps * self._longer[0])
        schedule = Schedule(steps, rows=24, length=128, long_factor=2, seed=self.seed)
        train(model, Stream(mixture, tokenizer, seed=self.seed), schedule, say=lambda line: None)
        save(Loaded(model, wrapped(tokenizer), "base", "Apache-2.0"), self._checkpoint("base"))

    def _texts(self) -> Iterator[str]:
        found, rng = domain_named(self.domain), Random(0)
        for at in range(2000):
            problem = make_split(found, rng, 1 + at % 8, Split.TRAIN)
            yield problem.prompt
            yield found.solution(problem)

    def _pairs(self, name: str, start: str) -> Path:
        path = self.folder / f"{name}-pairs.jsonl"
        if not path.exists():
            prompts = self._source(rows=self.size.pairs_prompts, teach="step-prompts", seed=self.seed + 200)
            making = Making(
                str(self._checkpoint(start)),
                (prompts,),
                candidates=8,
                most_tokens=STEP_TOKENS,
                seed=self.seed,
            )
            write_pairs(make(making).pairs, path)
        return path

    def _kept_steps(self) -> Path:
        path = self.folder / "rejection.jsonl"
        if path.exists():
            return path
        loaded = load(str(self._checkpoint("sft")))
        sampler = ModelSampler(loaded.model, loaded.tokenizer, fast=True)
        roller = Roller(
            sampler, loaded.tokenizer, StepVerified(), Drawing(8, most_tokens=STEP_TOKENS, at_line=True)
        )
        rows = rows_of([self._source(rows=self.size.prompts, teach="step-prompts", seed=self.seed + 100)])
        chosen = Random(self.seed).sample(rows, min(len(rows), 32 * self.size.rlvr_steps))
        with path.open("w") as out:
            for group in roller.draw(chosen, seed=self.seed):
                for text, reward in zip(group.texts, group.rewards, strict=True):
                    if reward == 1.0:
                        row = with_completion(group.row, text)
                        kept = {
                            "id": row.id,
                            "prompt": row.messages[0].content,
                            "prefix": row.prefix,
                            "completion": text,
                            "ends": row.ends,
                            "licence": row.licence,
                        }
                        out.write(json.dumps(kept) + "\n")
        return path


def measure(loaded: Loaded, domain: str, number: int) -> Measured:
    """Ask fresh problems of the hard level and of the old ones, greedily and at temperature 1."""
    solver = Solver(ModelSampler(loaded.model, loaded.tokenizer, fast=True), loaded.tokenizer, REPLY_TOKENS)
    hard = problems_of(Source(domain=domain, levels=(HARD_LEVEL,), rows=number, seed=9), side=Split.FRESH)
    old = problems_of(Source(domain=domain, levels=(3, 4), rows=number, seed=9), side=Split.FRESH)
    eights = solver.solve(hard[: number // 4], each=8, temperature=1.0, seed=1)
    greedy = [one for (one,) in solver.solve(hard)]
    return Measured(
        asked=number,
        hard=sum(_all_right(one.problem, one.reply) for one in greedy),
        hard_sampled=sum(
            _all_right(one.problem, one.reply) for (one,) in solver.solve(hard, temperature=1.0, seed=2)
        ),
        hard_answer=sum(one.score == 1.0 for one in greedy),
        pass_at_8=sum(any(_all_right(one.problem, one.reply) for one in eight) for eight in eights),
        pass_asked=len(eights),
        old=sum(_all_right(one.problem, one.reply) for (one,) in solver.solve(old)),
        old_sampled=sum(
            _all_right(one.problem, one.reply) for (one,) in solver.solve(old, temperature=1.0, seed=3)
        ),
    )


def step_draws() -> Draws:
    """Return how a step is drawn: eight replies of one line."""
    return Draws(sampler="fast", each=8, most_tokens=STEP_TOKENS)


def misremembering(rng: Random) -> Calculate:
    """Return how somebody calculates who has some facts of the made-up operation wrong, most of the time."""
    facts = [(one, odd) for one in range(10) for odd in (0, 1)]
    wrong = {
        (one, odd): rng.choice([digit for digit in range(10) if digit != PARTNERS[odd][one]])
        for one, odd in rng.sample(facts, FACTS_WRONG)
    }

    def result(one: int, operation: str, other: int) -> int:
        fact = (one, other % 2)
        if operation == "@" and fact in wrong and rng.random() < WRONG_AT:
            return wrong[fact]
        return calculate(one, operation, other)

    return result


def _all_right(problem: Problem, reply: str) -> bool:
    """Say whether every step is right: one answer in ten is right by chance."""
    return reply.strip() == domain_named(problem.domain).solution(problem)


class Rung(NamedTuple):
    """One cell of the table: its folder's name, and what makes it (with the rungs below it)."""

    folder: str
    make: Callable[[Ground], Path]


LADDER = ("base", "sft", "rlvr", "dpo")
RUNGS: Mapping[str, Rung] = {
    "base": Rung("base", Ground.base),
    "sft": Rung("sft", Ground.sft),
    "rlvr": Rung("rlvr", Ground.rlvr),
    "dpo": Rung("dpo", Ground.dpo),
    "srl": Rung("srl", Ground.srl),
    "srl, rlvr": Rung("srl-rlvr", lambda ground: ground.rlvr("srl-rlvr", "srl")),
    "srl, rlvr, dpo": Rung("srl-rlvr-dpo", lambda ground: ground.dpo("srl-rlvr-dpo", "srl-rlvr")),
    "rlvr alone": Rung("rlvr-alone", lambda ground: ground.rlvr("rlvr-alone", "base")),
    "srl alone": Rung("srl-alone", lambda ground: ground.srl("srl-alone", "base")),
    "dpo alone": Rung("dpo-alone", lambda ground: ground.dpo("dpo-alone", "base")),
    "random rewards": Rung("random", Ground.random_rewards),
    "rejection-sampled sft": Rung("rejection", Ground.rejection_sampled),
}
