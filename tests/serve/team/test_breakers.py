"""When a model is held back, and when it is tried again."""

from studium.errors import BadRequest, EngineDied, EngineTimeout, SpendingLimit, UnknownModel
from studium.serve.team.breakers import TRIAL_S, Breakers, State, counts

DIED = EngineDied("gone")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breakers, Clock]:
    clock = Clock()
    breakers = Breakers(clock=clock)
    for _ in range(3):
        assert breakers.admits("m")
        clock.now += 1
        breakers.failed("m", DIED, clock.now)
    return breakers, clock


def test_three_errors_in_a_row_open_it_and_a_reply_between_them_does_not():
    breakers = Breakers(clock=(clock := Clock()))
    for _ in range(5):
        clock.now += 1
        breakers.failed("m", DIED, clock.now)
        clock.now += 1
        breakers.failed("m", DIED, clock.now)
        breakers.replied("m")
    assert breakers.admits("m")
    breakers, _ = opened()
    assert not breakers.admits("m") and breakers.admits("another")
    assert breakers.health()["m"].state is State.OPEN


def test_all_asks_one_death_takes_with_it_are_one_error():
    breakers = Breakers(clock=(clock := Clock()))
    for _ in range(20):
        clock.now += 0.001
        breakers.failed("m", DIED, began=90.0)
    assert breakers.admits("m") and breakers.health()["m"].errors == 20


def test_one_ask_tries_it_later_and_what_comes_of_that_decides():
    breakers, clock = opened()
    clock.now += 10
    assert breakers.admits("m")
    assert not breakers.admits("m")
    breakers.failed("m", DIED, clock.now)
    clock.now += 10
    assert not breakers.admits("m")  # the wait has doubled
    clock.now += 10
    assert breakers.admits("m")
    breakers.replied("m")
    assert breakers.admits("m") and breakers.admits("m")
    assert breakers.health()["m"].state is State.CLOSED


def test_a_trial_that_nobody_told_the_end_of_is_forgotten():
    breakers, clock = opened()
    clock.now += 10
    assert breakers.admits("m")
    clock.now += TRIAL_S
    assert breakers.admits("m")


def test_what_is_the_callers_fault_or_a_limits_or_a_busy_machines_does_not_count():
    assert not counts(BadRequest("no"), seated=True) and not counts(SpendingLimit("no"), seated=True)
    assert counts(UnknownModel("its file is gone"), seated=False)
    assert counts(EngineTimeout("hung"), seated=True) and not counts(EngineTimeout("queue"), seated=False)
