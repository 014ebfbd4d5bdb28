"""How a turn ends where a command of it fails, and where it was killed: the commands are by script here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from studium.manage.improve import loop
from studium.manage.improve.commands import Commands, Told
from studium.manage.improve.ending import Ending
from studium.manage.improve.folder import Improvement, Wanted, begin

Json = dict[str, Any]
ID = "f" * 64
COMPARED: Json = {"verdict": "promote", "reasons": [], "evidence": "e" * 64, "differences": [], "folder": ""}
HEARD = Told(0, {"adapter": "sprout/sprout-1", "text": "4"}, "", 0.1)


@dataclass(slots=True)
class Scripted(Commands):
    """Answers by the first two words; what is not scripted fails."""

    answers: dict[str, Told] = field(default_factory=dict[str, Told])
    asked: list[str] = field(default_factory=list[str])
    limits_s: list[float] = field(default_factory=list[float])

    def run(self, *words: str, timeout_s: float, has_config: bool = True) -> Told:
        name = words[0] if words[0] in ("compare", "ask") else " ".join(words[:2])
        self.asked.append(name)
        self.limits_s.append(timeout_s)
        return self.answers.get(name, Told(1, {}, f"{name} broke", 0.1))


def state(champion_id: str) -> Told:
    return Told(0, {"roles": [{"role": "sprout", "champion_id": champion_id}]}, "", 0.1)


@pytest.fixture
def one(tmp_path: Path) -> Improvement:
    made = begin(tmp_path, Wanted("sprout", minutes=120.0))
    told = {
        "domain": "arithmetic",
        "metric": "accuracy",
        "value": 0.2,
        "counted": 30,
        "low": 0.0,
        "high": 1.0,
    }
    figures = [told | {"level": level} for level in (None, 1)]
    done = {"rehearse": {}, "pace": {"seconds_a_step": 0.1, "steps": 60}, "train": {}, "after": {}}
    made.steps = {"measure": {"figures": figures, "model": "sprout"}, **done}
    return made


def carry_out(one: Improvement, **answers: Told) -> Scripted:
    commands = Scripted(Path("w"), None, lambda _: None)
    commands.answers = {name.replace("_", " "): told for name, told in answers.items()}
    loop.Loop(one, commands, "sprout", lambda _: None).run()
    return commands


@pytest.mark.parametrize("step", ["register", "compare", "promote"])
def test_what_fails_after_training_is_gone_on_with_once_it_is_mended(one: Improvement, step: str):
    answers = {
        "adapters_register": Told(0, {"id": ID}, "", 0.1),
        "compare": Told(0, COMPARED, "", 0.1),
        "adapters_state": state(""),
        "adapters_promote": Told(0, {"number": 7}, "", 0.1),
        "ask": HEARD,
    }
    broken = "compare" if step == "compare" else f"adapters_{step}"
    carry_out(one, **{name: told for name, told in answers.items() if name != broken})
    assert one.ending is Ending.STOPPED and "broke" in one.detail
    asked = carry_out(one, **answers).asked
    assert one.ending is Ending.PROMOTED
    assert (
        asked[0] == {"register": "adapters register", "compare": "compare", "promote": "adapters state"}[step]
    )


def test_one_killed_after_its_promotion_is_not_promoted_again(one: Improvement):
    """The registry would refuse it, and the improvement would say that who served before goes on serving."""
    one.steps |= {"register": {"id": ID}, "compare": COMPARED}
    commands = carry_out(one, adapters_state=state(ID), ask=HEARD)
    assert (one.ending, commands.asked) == (Ending.PROMOTED, ["adapters state", "ask"])


def test_a_step_may_take_as_long_as_was_given_for_all(one: Improvement):
    assert set(carry_out(one).limits_s) == {7200.0}
