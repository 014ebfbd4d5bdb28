"""What a course does about alarms, and what is told of a run afterwards: report, curves, rows behind a spike."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from studium.config.reading import Reading
from studium.train.config import Recipe, Validation, Watch
from studium.train.course import Course, RowLoss, StepDone, drive
from studium.train.report import measured, write_report
from studium.train.run_folder import RunFolder, State
from studium.train.spikes import spikes, suspects
from studium.train.surroundings import threads_for
from studium.train.watchers import Watchers

RECIPE = Recipe("sprout", validation=Validation(every_steps=0, problems=0))


class Scripted:
    """A stage whose losses are given, one weight that counts the steps that changed it, and a rate."""

    def __init__(self, losses: Mapping[int, float], steps: int = 60) -> None:
        self.steps, self.losses, self.weight, self.rate = steps, losses, 0, 1.0
        self.skipped: list[int] = []

    def step(self, number: int, allow: Callable[[Mapping[str, float]], bool]) -> StepDone:
        loss = self.losses.get(number, 1.0 + 0.01 * (number % 7))
        metrics = {"loss": loss, "gradient_norm": 1.0 + 0.1 * (number % 5)}
        if allow(metrics):
            self.weight += 1
        else:
            self.skipped.append(number)
        rows = [RowLoss(f"row {number % 5}", 1.0), RowLoss(f"other {number % 3}", 2 * loss - 1.0)]
        return StepDone(metrics, rows)

    def validate(self) -> Mapping[str, float]:
        return {}

    def lower_rate(self, factor: float) -> None:
        self.rate *= factor

    def state(self) -> dict[str, Any]:
        return {"weight": self.weight, "rate": self.rate}

    def restore(self, state: dict[str, Any]) -> None:
        self.weight, self.rate = state["weight"], state["rate"]

    def keep(self) -> Any:
        return self.weight

    def use(self, kept: Any) -> None:
        self.weight = kept


def driven(stage: Scripted, path: Path, watch: Watch | None = None) -> tuple[Course, State]:
    folder = RunFolder(path / "run")
    folder.begin("sft", RECIPE, "data")
    course = Course(folder, stage.steps, Watchers(watch or Watch()), say=lambda line: None)
    ended = drive(stage, course, RECIPE)
    course.status(ended.state, course.stopping)
    return course, ended.state


def events(course: Course) -> list[tuple[int, str]]:
    return [(one["step"], one["action"]) for one in course.folder.lines("events.jsonl") if "action" in one]


def test_a_spike_leaves_its_step_out_and_is_logged_with_its_number(tmp_path: Path) -> None:
    stage = Scripted({40: 50.0})
    course, state = driven(stage, tmp_path)
    assert (state, stage.skipped, stage.weight) == (State.DONE, [40], 59)
    assert events(course) == [(41, "skip")]


def test_repeated_spikes_lower_the_rate_and_then_halt_the_run(tmp_path: Path) -> None:
    stage = Scripted(dict.fromkeys(range(30, 60, 4), 50.0))
    course, state = driven(stage, tmp_path)
    assert [action for _, action in events(course)] == ["skip", "skip", "lower", "lower", "lower", "stop"]
    assert (state, stage.rate) == (State.HALTED, 0.125)
    assert course.folder.status().state is State.HALTED
    assert "spikes" in course.folder.status().message


def test_what_is_not_finite_halts_before_weights_change(tmp_path: Path) -> None:
    stage = Scripted({10: float("nan")})
    _, state = driven(stage, tmp_path)
    assert (state, stage.weight) == (State.HALTED, 10)


def test_a_recipe_that_wants_advice_only_gets_no_more(tmp_path: Path) -> None:
    stage = Scripted({40: 50.0})
    course, state = driven(stage, tmp_path, Watch(act="advise"))
    assert (state, stage.skipped, events(course)) == (State.DONE, [], [(41, "advise")])


def test_the_rows_behind_a_spike_are_those_far_above_what_they_mostly_cost(tmp_path: Path) -> None:
    course, _ = driven(Scripted({40: 50.0}), tmp_path)
    (highest, *_) = spikes(course.folder)
    assert (highest.step, highest.metric, highest.value) == (41, "loss", 50.0)
    first, second = suspects(course.folder, 41)
    assert (first.row_id, first.loss) == ("other 1", 99.0)
    assert first.usual == pytest.approx(1.06, abs=0.1)
    assert second.row_id == "row 0"


def test_what_is_not_finite_stands_out_most_and_its_rows_come_first(tmp_path: Path) -> None:
    """`train why` crashed after such a step, which is kept as null: not at all where it was the one to look at."""
    course, _ = driven(Scripted({20: float("inf"), 40: 50.0, 50: float("nan")}), tmp_path, Watch(act="skip"))
    first, second, third = spikes(course.folder)
    assert [(one.step, one.metric, one.value) for one in (first, second)] == [
        (21, "loss", None),
        (51, "loss", None),
    ]
    assert first.usual == pytest.approx(1.03, abs=0.05)
    assert (third.step, third.value) == (41, 50.0)
    broken, sound = suspects(course.folder, 21)
    assert (broken.row_id, broken.loss) == ("other 2", None)
    assert broken.usual == pytest.approx(1.06, abs=0.1)
    assert (sound.row_id, sound.loss) == ("row 0", 1.0)


def test_a_row_that_is_finite_nowhere_has_no_usual_loss(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin("sft", RECIPE, "data")
    for step in (1, 2):
        folder.append("metrics.jsonl", {"step": step, "loss": float("nan"), "gradient_norm": float("nan")})
        folder.append("rows.jsonl", {"step": step, "rows": [["bad", float("nan")]]})
    assert [(one.step, one.value, one.usual) for one in spikes(folder)] == [(1, None, None), (2, None, None)]
    (bad,) = suspects(folder, 2)
    assert (bad.loss, bad.usual) == (None, None)


def test_a_report_of_a_run_that_broke_has_the_curves_of_what_was_finite(tmp_path: Path) -> None:
    course, state = driven(Scripted({40: float("nan")}), tmp_path)
    assert state is State.HALTED
    assert "loss.svg" in write_report(course.folder).read_text()
    assert len(measured(course.folder).series["loss"]) == 40


def test_the_report_holds_a_curve_that_is_valid_for_every_metric_with_two_values(tmp_path: Path) -> None:
    course, _ = driven(Scripted({40: 50.0}), tmp_path)
    course.folder.append("metrics.jsonl", {"step": 30, "validation": {"score": 0.25}})
    course.folder.append("metrics.jsonl", {"step": 60, "validation": {"score": 0.75}})
    text = write_report(course.folder).read_text()
    assert "Best score 0.750 at step 60" in text
    assert "loss-spike" in text
    for name in ("loss", "gradient_norm", "score"):
        assert f"({name}.svg)" in text
        root = ElementTree.fromstring((course.folder.path / f"{name}.svg").read_text())
        assert root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(measured(course.folder).series["loss"]) == 60
    assert json.loads((course.folder.path / "status.json").read_text())["state"] == "done"


def test_threads_follow_the_load_and_small_models_take_one() -> None:
    assert threads_for(8, 0.0, 1_000_000_000).threads == 8
    assert threads_for(8, 5.6, 1_000_000_000).threads == 2
    assert threads_for(2, 2.0, None).threads == 1
    assert threads_for(64, 0.0, 200_000).threads == 1


def test_a_setting_of_a_watcher_can_be_given_in_a_recipe(tmp_path: Path) -> None:
    from studium.config.document import read_document

    (tmp_path / "watch.yaml").write_text("act: lower\nmax_kl: 0.3\n")
    watch = Reading().section(Watch, read_document(tmp_path / "watch.yaml"), "")
    assert (watch.act, watch.max_kl) == ("lower", 0.3)
