"""Units, durations, weekdays and dates.

Level 1 converts with factors that append zeros, and small numbers of hours, days and weeks; level 2
converts larger numbers, metric ones also back, and counts weekdays; level 3 asks for durations
between two times of day and for dates. February is left out of dates, so no year is needed.
"""

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from studium.domains.answers import without_asides
from studium.domains.columns import minus, plus
from studium.domains.exact import ExactDomain
from studium.domains.numbers import one_number
from studium.domains.protocol import Problem, Rule
from studium.domains.wording import Phrasebook, Reading

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTH_DAYS = {
    "January": 31,
    "March": 31,
    "April": 30,
    "May": 31,
    "June": 30,
    "July": 31,
    "August": 31,
    "September": 30,
    "October": 31,
    "November": 30,
    "December": 31,
}
# (large unit, small unit, factor); the first three of time need real multiplication.
_TIME_UNITS = (
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
)
_METRIC_UNITS = (
    ("kilometres", "metres", 1000),
    ("metres", "centimetres", 100),
    ("centimetres", "millimetres", 10),
    ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000),
)
_UNITS = "|".join(sorted({unit for row in _TIME_UNITS + _METRIC_UNITS for unit in row[:2]}))
_TEMPLATES = {
    "convert": (
        "How many {small} are in {count} {large}?",
        "How many {small} are {count} {large}?",
        "Convert {count} {large} to {small}.",
        "{count} {large} in {small}",
        "What is {count} {large} in {small}?",
        "{count} {large} = ? {small}",
        "Express {count} {large} in {small}.",
        "How many {small} make {count} {large}?",
        "Change {count} {large} into {small}.",
    ),
    "mixed": (
        "How many minutes are {hours} hours and {minutes} minutes?",
        "Convert {hours} hours {minutes} minutes to minutes.",
        "What is {hours} hours and {minutes} minutes in minutes?",
        "{hours} hours {minutes} minutes in minutes",
        "How many minutes are in {hours} hours {minutes} minutes?",
    ),
    "duration": (
        "How many minutes are there from {start} to {end}?",
        "How many minutes from {start} to {end}?",
        "How many minutes are between {start} and {end}?",
        "How long is it from {start} to {end} in minutes?",
        "A train leaves at {start} and arrives at {end}. How many minutes does it take?",
        "Minutes from {start} to {end}?",
    ),
    "weekday after": (
        "What day is {count} days after {weekday}?",
        "Which day of the week is {count} days after {weekday}?",
        "What day comes {count} days after {weekday}?",
        "Today is {weekday}. What day is it in {count} days?",
        "If today is {weekday}, what day will it be in {count} days?",
        "{count} days after {weekday}",
    ),
    "weekday before": (
        "What day is {count} days before {weekday}?",
        "Which day of the week is {count} days before {weekday}?",
        "What day was {count} days before {weekday}?",
        "Today is {weekday}. What day was it {count} days ago?",
        "If today is {weekday}, what day was it {count} days ago?",
        "{count} days before {weekday}",
    ),
    "date after": (
        "What date is {count} days after {day} {month}?",
        "Which date comes {count} days after {day} {month}?",
        "Today is {day} {month}. What is the date in {count} days?",
        "{count} days after {day} {month}",
        "What is the date {count} days after {day} {month}?",
    ),
    "date before": (
        "What date is {count} days before {day} {month}?",
        "Which date comes {count} days before {day} {month}?",
        "Today is {day} {month}. What was the date {count} days ago?",
        "{count} days before {day} {month}",
        "What is the date {count} days before {day} {month}?",
    ),
}
_SLOTS = {
    "count": r"\d+",
    "large": _UNITS,
    "small": _UNITS,
    "hours": r"\d+",
    "minutes": r"\d+",
    "start": r"\d{1,2}:\d\d",
    "end": r"\d{1,2}:\d\d",
    "weekday": "|".join(WEEKDAYS).lower(),
    "day": r"\d{1,2}",
    "month": "|".join(MONTH_DAYS).lower(),
}
_TASKS = {
    1: ("metric", "metric", "time"),
    2: ("metric", "time", "back", "mixed", *("weekday after", "weekday before") * 2),
    3: ("mixed", "duration", "duration", "date after", "date before"),
}
_DATE = re.compile(
    rf"(?<![\w.,−-])(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({'|'.join(MONTH_DAYS)})\b", re.IGNORECASE
)
_WEEKDAY = re.compile(rf"\b({'|'.join(WEEKDAYS)})\b", re.IGNORECASE)


class _Worked(NamedTuple):
    task: str
    slots: dict[str, object]
    steps: Sequence[str]
    answer: str


class Measures(ExactDomain):
    """Convert units, and reckon with times of day, weekdays and dates."""

    name = "measures"
    rules: Sequence[Rule] = (
        Rule("factor", "Name the factor between the two units before using it."),
        Rule("week", "Weekdays repeat every seven days."),
        Rule("months", "A date past the end of a month goes on in the next; February is not asked for."),
        Rule("answer", "End with a line 'Answer: ' and a number, a weekday, or a day and a month."),
    )
    phrases = Phrasebook(_TEMPLATES, _SLOTS)

    def make(self, rng: Random, level: int) -> Problem:
        kind = rng.choice(_TASKS[level])
        worked = _MAKERS[kind](rng, level)
        return Problem(
            domain=self.name,
            key=f"{worked.task} " + " ".join(str(value) for value in worked.slots.values()),
            prompt=self.phrases.ask(rng, worked.task, **worked.slots),
            steps=tuple(worked.steps),
            expected=worked.answer,
            level=level,
            facts={"task": worked.task, **worked.slots},
        )

    def canonical(self, answer: str) -> str | None:
        answer = without_asides(answer)
        dates = {f"{int(date[1])} {date[2].capitalize()}" for date in _DATE.finditer(answer)}
        weekdays = {weekday[1].capitalize() for weekday in _WEEKDAY.finditer(answer)}
        found = dates or weekdays
        if not found:
            return one_number(answer)
        return found.pop() if len(found) == 1 else None

    def answer_to(self, reading: Reading) -> str | None:
        slots = reading.slots
        if reading.task == "convert":
            return _converted(int(slots["count"]), slots["large"], slots["small"])
        if reading.task == "mixed":
            return str(int(slots["hours"]) * 60 + int(slots["minutes"]))
        if reading.task in ("weekday after", "weekday before"):
            days = int(slots["count"]) * (1 if reading.task == "weekday after" else -1)
            return WEEKDAYS[(WEEKDAYS.index(slots["weekday"].capitalize()) + days) % 7]
        return None  # durations past midnight and the length of February are anybody's reading


def _converted(count: int, given: str, wanted: str) -> str | None:
    """Return a count in another unit where that is a whole number and the two are in one row of a table."""
    for large, small, factor in _TIME_UNITS + _METRIC_UNITS:
        if (given, wanted) == (large, small):
            return str(count * factor)
        if (given, wanted) == (small, large) and count % factor == 0:
            return str(count // factor)
    return None


def _metric(rng: Random, level: int) -> _Worked:
    large, small, factor = rng.choice(_METRIC_UNITS)
    count = rng.randint(2, 99) if level == 1 else rng.randint(20, 999)
    steps = [_factor(large, small, factor), f"{count}*{factor}={count * factor}"]
    return _Worked("convert", {"count": count, "large": large, "small": small}, steps, str(count * factor))


def _time(rng: Random, level: int) -> _Worked:
    large, small, factor = rng.choice(_TIME_UNITS)
    count = rng.randint(2, 12) if level == 1 or factor == 24 else rng.randint(11, 48)
    steps = [_factor(large, small, factor), *_product(count, factor)]
    return _Worked("convert", {"count": count, "large": large, "small": small}, steps, str(count * factor))


def _back(rng: Random, level: int) -> _Worked:
    large, small, factor = rng.choice(_METRIC_UNITS)
    count = rng.randint(2, 99)
    steps = [_factor(large, small, factor), f"{count * factor}/{factor}={count}"]
    return _Worked("convert", {"count": count * factor, "large": small, "small": large}, steps, str(count))


def _mixed(rng: Random, level: int) -> _Worked:
    hours, minutes = rng.randint(1, 12 if level == 2 else 24), rng.randint(1, 59)
    total = hours * 60 + minutes
    steps = [f"{hours}*60={hours * 60}", plus(hours * 60, minutes)]
    return _Worked("mixed", {"hours": hours, "minutes": minutes}, steps, str(total))


def _duration(rng: Random, level: int) -> _Worked:
    """The way to the next full hour, the full hours between, and the rest."""
    start_hour = rng.randint(0, 20)
    end_hour = start_hour + rng.randint(1, 2)
    start, end = rng.randint(1, 59), rng.randint(1, 59)
    hours_between = end_hour - start_hour - 1
    first, whole = 60 - start, hours_between * 60
    steps = [
        f"{end_hour}-{start_hour}={hours_between + 1}",
        f"{start_hour}:{start:02} to {start_hour + 1}:00: {first}",
        f"{end_hour}:00 to {end_hour}:{end:02}: {end}",
        plus(first, end),
    ]
    if hours_between:
        steps += [f"{start_hour + 1}:00 to {end_hour}:00: {whole}", plus(first + end, whole)]
    slots: dict[str, object] = {"start": f"{start_hour}:{start:02}", "end": f"{end_hour}:{end:02}"}
    return _Worked("duration", slots, steps, str(first + end + whole))


def _weekday(rng: Random, direction: int) -> _Worked:
    """Whole weeks are taken out first, then the days are counted one by one."""
    today, count = rng.randrange(7), rng.randint(2, 34)
    rest = count % 7
    counted = [WEEKDAYS[(today + direction * step) % 7] for step in range(rest + 1)]
    steps = [f"{count}={count - rest}+{rest}", ", ".join(f"{i} {day}" for i, day in enumerate(counted))]
    task = "weekday after" if direction > 0 else "weekday before"
    return _Worked(task, {"count": count, "weekday": WEEKDAYS[today]}, steps, counted[-1])


def _weekday_after(rng: Random, level: int) -> _Worked:
    return _weekday(rng, 1)


def _weekday_before(rng: Random, level: int) -> _Worked:
    return _weekday(rng, -1)


def _date_after(rng: Random, level: int) -> _Worked:
    months = tuple(MONTH_DAYS)
    index = rng.randrange(1, len(months) - 1)
    month, days_in_month = months[index], MONTH_DAYS[months[index]]
    day, count = rng.randint(1, days_in_month), rng.randint(2, 28)
    steps = [f"{day} {month}", f"{month} has {days_in_month} days", plus(day, count)]
    answer = f"{day + count} {month}"
    if day + count > days_in_month:
        rest = day + count - days_in_month
        steps.append(minus(day + count, days_in_month))
        answer = f"{rest} {months[index + 1]}"
    return _Worked("date after", {"count": count, "day": day, "month": month}, steps, answer)


def _date_before(rng: Random, level: int) -> _Worked:
    months = tuple(MONTH_DAYS)
    index = rng.randrange(2, len(months))
    month, previous = months[index], months[index - 1]
    day, count = rng.randint(1, MONTH_DAYS[month]), rng.randint(2, 28)
    if day > count:
        steps, answer = [f"{day} {month}", minus(day, count)], f"{day - count} {month}"
    else:
        whole = MONTH_DAYS[previous] + day
        steps = [
            f"{day} {month}",
            f"{previous} has {MONTH_DAYS[previous]} days",
            plus(MONTH_DAYS[previous], day),
            minus(whole, count),
        ]
        answer = f"{whole - count} {previous}"
    return _Worked("date before", {"count": count, "day": day, "month": month}, steps, answer)


def _factor(large: str, small: str, factor: int) -> str:
    return f"1 {large.removesuffix('s')} = {factor} {small}"


def _product(count: int, factor: int) -> Sequence[str]:
    """Split the factor 24, or else a count of two digits, so that only small products are needed."""
    if factor == 24:
        pairs = [(count, 20), (count, 4)]
    else:
        pairs = [pair for pair in ((count // 10 * 10, factor), (count % 10, factor)) if pair[0]]
    products = [one * other for one, other in pairs]
    steps = [f"{one}*{other}={one * other}" for one, other in pairs]
    return steps if len(pairs) == 1 else [*steps, plus(*products)]


_MAKERS = {
    "metric": _metric,
    "time": _time,
    "back": _back,
    "mixed": _mixed,
    "duration": _duration,
    "weekday after": _weekday_after,
    "weekday before": _weekday_before,
    "date after": _date_after,
    "date before": _date_before,
}
