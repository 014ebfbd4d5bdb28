"""What people see of a pull, with a clock of the test's own."""

import io

import pytest

from studium.cli.pulls import Meter, Watch, duration, size
from studium.engines.ollama import OllamaEngine, Progress
from studium.errors import EngineTimeout


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Told(OllamaEngine):
    """An engine whose pull is what it is given: each step after the seconds before it."""

    def __init__(self, clock, steps, error=None):
        super().__init__()
        self.clock, self.steps, self.error = clock, steps, error

    async def pull(self, model, *, stall_s=1.0):
        for seconds, step in self.steps:
            self.clock.now += seconds
            yield step
        if self.error:
            raise self.error


class Terminal(io.StringIO):
    def isatty(self):
        return True


def part(done, total=4_000_000_000, status="pulling ff82381e2bea"):
    return Progress(status, done, total)


def test_speed_and_time_left_come_from_what_arrived_since_the_pull_began():
    clock = Clock()
    meter = Meter("mistral", clock)
    resumed = meter.text(part(2_000_000_000))
    clock.now += 10
    assert resumed == "mistral: pulling ff82381e2bea, 2 GB of 4 GB (50%)"
    assert meter.text(part(2_200_000_000)).endswith("2.2 GB of 4 GB (55%), 20 MB/s, 1 min 30 s left")


def test_the_speed_is_that_of_the_last_twenty_seconds():
    clock = Clock()
    meter = Meter("mistral", clock)
    for done in (0, 1_000_000_000, 1_010_000_000, 1_020_000_000):
        last = meter.text(part(done))
        clock.now += 20
    assert "500 kB/s" in last
    clock.now += 1
    assert meter.text(part(1_020_000_000)).endswith("no bytes lately")


def test_a_new_part_begins_its_own_count_and_all_parts_make_the_size():
    clock = Clock()
    meter = Meter("mistral", clock)
    meter.text(part(4_000_000_000))
    clock.now += 30
    assert meter.text(part(1_000, 2_000, "pulling 43070e2d4e53")).endswith("1 kB of 2 kB (50%)")
    assert meter.text(Progress("verifying sha256 digest", None, None)) == "mistral: verifying sha256 digest"
    assert meter.total_bytes == 4_000_002_000


async def test_without_a_terminal_a_line_comes_for_each_step_and_every_ten_seconds(capsys):
    clock = Clock()
    steps = [(0, Progress("pulling manifest", None, None))] + [(1, part(n * 10**8)) for n in range(25)]
    watch = Watch(clock=clock)
    await watch.pull(Told(clock, steps), ["mistral"], stall_s=1)
    told = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[1].split(" of")[0] for line in told[1:]] == ["0 B", "1 GB", "2 GB", "2.4 GB"]
    assert (watch.pulled[0].base, watch.pulled[0].bytes, watch.pulled[0].seconds) == (
        "mistral",
        4 * 10**9,
        25,
    )


async def test_on_a_terminal_one_line_is_written_over_and_ended_even_by_an_error():
    clock, screen = Clock(), Terminal()
    engine = Told(clock, [(0, part(0)), (1, part(10**9))], EngineTimeout("stalled"))
    watch = Watch(screen, clock)
    with pytest.raises(EngineTimeout):
        await watch.pull(engine, ["mistral"], stall_s=1)
    lines = screen.getvalue().split("\r\x1b[K")
    assert len(lines) == 3 and lines[-1].startswith("mistral: ") and lines[-1].endswith("\n")
    assert watch.pulled == [] and watch.at == lines[-1].rstrip("\n")


async def test_what_a_server_says_cannot_steer_the_terminal():
    clock, screen = Clock(), Terminal()
    await Watch(screen, clock).pull(
        Told(clock, [(0, Progress("\x1b[2Jgone", None, None))]), ["mistral"], stall_s=1
    )
    assert "\x1b[2J" not in screen.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (4_113_000_000, "4.11 GB"), (1.5e12, "1,500 GB")],
)
def test_sizes_read_as_registries_give_them(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (82, "1 min 22 s"), (7_500, "2 h 5 min")])
def test_times_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text
