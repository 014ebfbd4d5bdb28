"""One turn of the loop, step by step (`STEPS`); each step is commands of Studium's, done once and kept.

A step that was done is not done again, so an improvement that was killed goes on where it was.
"""

import json
import time
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from studium.domains.catalogue import skills
from studium.evals.items import fresh_items
from studium.manage.improve.commands import Commands, OutOfTime, Told
from studium.manage.improve.ending import Ending
from studium.manage.improve.folder import Improvement
from studium.manage.improve.recipe import PACE_STEPS, for_pace, recipe, steps_within, with_steps
from studium.manage.improve.weakest import Choice, scores_of, weakest, why_none
from studium.records.adapters import Verdict
from studium.train.exporting.trained import SCORES
from studium.train.rehearsal import OUTSIDE

Json = dict[str, Any]
MEASURED_PROBLEMS = 90
REHEARSED_ROWS = 200
TRAINING_SHARE = 0.55
"""Of what is left of the time when training begins; the rest is for comparing."""
NO_HURRY_S = 1800.0
HEARD_S = 20.0
EXIT_NO_ANSWER = 6
_VERDICTS = {
    Verdict.HOLD: Ending.HELD,
    Verdict.ROLL_BACK: Ending.ROLLED_BACK,
    Verdict.NOT_MEASURED: Ending.NOT_MEASURED,
}


INTERRUPTED = 130
STEPS = {
    "measure": "the role's skills on fresh problems, and of these the weakest",
    "rehearse": "the model's own words for what it declines, to be replayed",
    "pace": "a few steps of training, to know how many fit into the time",
    "train": "supervised fine-tuning on fresh problems of the weak skill, old skills in every batch",
    "after": "the trained model on the problems of `measure`",
    "register": "taken in, with what it was made from",
    "compare": "the gate, on problems of its own",
    "promote": "only where the gate's word is promote",
    "hear": "the new champion is asked, and must be the one that answers",
}


class Ends(Exception):
    """The improvement ends here: how, and what more there is to say."""

    def __init__(self, ending: Ending, detail: str = "") -> None:
        self.ending, self.detail = ending, detail


class Loop:
    """Carries out one improvement."""

    def __init__(
        self, improvement: Improvement, commands: Commands, model: str, say: Callable[[str], None]
    ) -> None:
        """`model` is what serves the role now, as a recipe names it. `say` is told what is being done."""
        self._it = improvement
        self._commands = commands
        self._model = model
        self._say = say
        self._began = time.monotonic() - improvement.spent_s

    def run(self) -> Ending:
        """Carry it out to its end, which is noted whatever it is; return it. Blocks."""
        try:
            self._turn()
            ending, detail = Ending.PROMOTED, ""
        except Ends as end:
            ending, detail = end.ending, end.detail
        except OutOfTime as late:
            ending, detail = Ending.STOPPED, f"a step was {late}"
        except KeyboardInterrupt:
            ending, detail = Ending.STOPPED, "interrupted"
        self._it.ending, self._it.detail = ending, detail
        self._it.spent_s = time.monotonic() - self._began
        self._it.keep()
        return ending

    def _turn(self) -> None:
        choice = self._choose()
        run = self._train(choice, self._rehearse(choice))
        self._after(choice, run)
        adapter = self._register(run)
        self._promote(adapter, self._compare(choice, adapter))
        self._hear(choice, adapter)

    def _choose(self) -> Choice:
        role, wanted = self._it.wanted.role, self._it.wanted.domains
        domains = dict.fromkeys([*skills(), *wanted])

        def measure() -> Json:
            self._say(
                f"measuring {role}: {MEASURED_PROBLEMS} fresh problems of each of {len(domains)} domains"
            )
            return {"figures": self._figures(role, tuple(domains)), "model": self._model}

        found = self._once("measure", measure)
        self._model = found.get("model", self._model)  # who serves may have changed since
        scores = scores_of(found["figures"])
        choice = weakest(scores, wanted)
        if choice is None:
            raise Ends(Ending.NOTHING_WEAK, why_none(scores)) if scores else Ends(Ending.NOT_MEASURED)
        self._say(f"weakest: {choice.why}")
        return choice

    def _rehearse(self, choice: Choice) -> Path:
        file = self._it.folder / "rehearsal.jsonl"
        known = {choice.chosen.domain, *(one.domain for one in choice.kept)}
        domains = [*(name for name in skills() if name not in known), OUTSIDE]
        words = [word for name in domains for word in ("--domain", name)]

        def rehearse() -> Json:
            self._say(f"asking {self._it.wanted.role} what it declines, to be replayed")
            return self._run(
                *("train", "rehearse", "--model", self._it.wanted.role, "--out", str(file), *words),
                *("--rows", str(REHEARSED_ROWS), "--beside", choice.chosen.domain),
                *("--seed", str(self._it.wanted.seed)),
                otherwise=Ending.NOT_TRAINED,
            ).data

        self._once("rehearse", rehearse)
        return file

    def _train(self, choice: Choice, rehearsal: Path) -> str:
        """Return the name of the run that was trained."""
        wanted, run = self._it.wanted, f"improve-{self._it.name}"
        told = recipe(choice, self._model, rehearsal, wanted)

        def pace() -> Json:
            self._say("training a few steps, to know how many fit into the time")
            status = self._sft(for_pace(told), f"{run}-pace")
            return {"seconds_a_step": status["seconds"] / PACE_STEPS}

        found = self._once("pace", pace)
        if "steps" not in found:
            gone_s = time.monotonic() - self._began
            left_s = wanted.minutes * 60 - gone_s
            found["steps"] = steps_within(
                left_s * TRAINING_SHARE, found["seconds_a_step"], wanted.least_steps
            )
            needed_s = gone_s + wanted.least_steps * found["seconds_a_step"] / TRAINING_SHARE
            found["minutes_needed"] = ceil(needed_s / 60)
            self._it.keep()
        steps = found["steps"]
        if steps == 0:
            raise Ends(
                Ending.NOT_TRAINED,
                f"{wanted.minutes:.1f} minutes are too few, since a step takes {found['seconds_a_step']:.2f} s now; "
                f"give --minutes {found['minutes_needed']} or more",
            )

        def train() -> Json:
            self._say(f"training {steps} steps on fresh problems of {choice.chosen.domain}")
            return self._sft(with_steps(told, steps), run)

        self._once("train", train)
        return run

    def _sft(self, told: Mapping[str, Any], run: str) -> Json:
        """Train a run to its end, or take it up where it was left; return its status."""
        file = self._it.folder / f"{run}.yaml"
        file.write_text(yaml.safe_dump(dict(told), sort_keys=False), encoding="utf-8")
        words = ("train", "sft", "--name", run)
        config = ("--config", str(file))
        return self._run(*words, *config, otherwise=Ending.NOT_TRAINED, config=False).data

    def _after(self, choice: Choice, run: str) -> None:
        """Measure the trained model and lay the shares down in its run, whose lineage tells them."""
        domains = (choice.chosen.domain, *(one.domain for one in choice.kept))
        folder = self._commands.workspace / "runs" / run

        def after() -> Json:
            self._say("measuring what was trained, on the problems of before")
            figures = self._figures(str(folder), domains, otherwise=Ending.STOPPED)
            shares = {one.domain: one.share for one in scores_of(figures)}
            (folder / SCORES).write_text(json.dumps(shares), encoding="utf-8")
            return {"figures": figures}

        self._once("after", after)

    def _register(self, run: str) -> str:
        """Return the name of the registered adapter."""

        def register() -> Json:
            self._say(f"registering {self._it.wanted.role}/{self._it.name}")
            wanted = self._it.wanted
            words = ("adapters", "register", run, "--role", wanted.role, "--name", self._it.name)
            shelf = ("--shelf", wanted.shelf) if wanted.shelf else ()
            # What stands on a champion has no base in the roster: it is registered whole.
            whole = ("--merged",) if "/" in self._model else ()
            return {"id": self._run(*words, *whole, *shelf, otherwise=Ending.STOPPED).data["id"]}

        self._once("register", register)
        return self._it.name

    def _compare(self, choice: Choice, adapter: str) -> str:
        """Return the id of evidence whose verdict is promote; end where it is another."""
        wanted = self._it.wanted

        def compare() -> Json:
            self._say("comparing with who serves now, on fresh problems that nobody was trained on")
            names = (choice.chosen.domain, *(one.domain for one in choice.kept))
            on = [word for name in names for word in ("--on", name)]
            told = self._run(
                *("compare", wanted.role, f"{wanted.role}/{adapter}", *on, "--all"),
                *("--problems", str(wanted.problems), "--seed", str(1000 + wanted.seed)),
                otherwise=Ending.STOPPED,
                fine=(0, 10, 11, 12),
            ).data
            kept = ("verdict", "reasons", "evidence", "differences", "folder")
            return {name: told[name] for name in kept}

        found = self._once("compare", compare)
        verdict = Verdict(found["verdict"])
        if verdict is not Verdict.PROMOTE:
            raise Ends(_VERDICTS[verdict], "; ".join(found["reasons"]))
        return found["evidence"]

    def _promote(self, adapter: str, evidence: str) -> None:
        role = self._it.wanted.role

        def promote() -> Json:
            self._say(f"promoting {role}/{adapter}")
            if self._champion_id(role) == self._it.steps["register"]["id"]:
                return {"number": None}  # done, and killed before that was noted
            reason = f"improvement {self._it.name}"
            words = ("adapters", "promote", role, adapter, "--evidence", evidence, "--reason", reason)
            return {"number": self._run(*words, otherwise=Ending.STOPPED).data.get("number")}

        self._once("promote", promote)

    def _hear(self, choice: Choice, adapter: str) -> None:
        """Ask until the new champion is the one that answers, for a limited time."""
        role = self._it.wanted.role

        def hear() -> Json:
            question = fresh_items([choice.chosen.domain], 1, self._it.wanted.seed)[0].question
            until, heard = time.monotonic() + HEARD_S, ""
            while time.monotonic() < until:
                words = ("ask", question, "--student", role, "--no-cache")
                told = self._run(*words, otherwise=Ending.NOT_ACTIVE, fine=(0, EXIT_NO_ANSWER)).data
                members = [one.get("adapter", "") for one in told.get("members", ())]
                heard = told.get("adapter") or next((one for one in members if one), "")
                if heard == f"{role}/{adapter}":
                    return {"question": question, "answer": told.get("text", ""), "adapter": heard}
                time.sleep(1.0)
            raise Ends(Ending.NOT_ACTIVE, f"{heard or 'the student itself'} answered for {role}")

        self._once("hear", hear)

    def _champion_id(self, role: str) -> str:
        """Return the id of the adapter that serves a role, "" for the student itself."""
        told = self._run("adapters", "state", otherwise=Ending.STOPPED).data
        roles: list[Json] = told.get("roles", [])
        return next((str(one["champion_id"]) for one in roles if one["role"] == role), "")

    def _figures(
        self, model: str, domains: tuple[str, ...], *, otherwise: Ending = Ending.NOT_MEASURED
    ) -> list[Json]:
        words = [word for name in domains for word in ("--domain", name)]
        seed = ("--seed", str(self._it.wanted.seed))
        told = self._run(
            *("eval", "run", "--model", model, *words, "--problems", str(MEASURED_PROBLEMS), *seed),
            otherwise=otherwise,
        )
        return told.data["figures"]

    def _once(self, step: str, do: Callable[[], Mapping[str, Any]]) -> Json:
        """Do a step unless it was done, and keep what it found."""
        if step not in self._it.steps:
            began = time.monotonic()
            found = dict(do())
            self._it.steps[step] = found | {"took_s": round(time.monotonic() - began, 2)}
            self._it.spent_s = time.monotonic() - self._began
            self._it.keep()
        return self._it.steps[step]

    def _run(self, *words: str, otherwise: Ending, fine: tuple[int, ...] = (0,), config: bool = True) -> Told:
        """Run a command; end the improvement where it ends otherwise than it should.

        After training that is STOPPED, so that it can be gone on with once what failed is mended.
        """
        limit_s = max(NO_HURRY_S, self._it.wanted.minutes * 60)
        told = self._commands.run(*words, timeout_s=limit_s, has_config=config)
        if told.status == INTERRUPTED:
            raise KeyboardInterrupt
        if told.status not in fine:
            raise Ends(otherwise, f"`studium {' '.join(words[:2])}` failed: {told.error}")
        return told
