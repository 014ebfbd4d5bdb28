"""What a channel may be asked to do, and what of it survives on disk."""

import pytest

from studium.errors import BadRequest
from studium.intents.settings import PLAN_SCHEMA, Settings, kept, load, query_of, save, settings_of
from studium.records.answers import Complexity


def test_the_default_question_asks_for_the_seconds_ahead():
    query = query_of(Settings(horizon_s=3.5), "a wolf comes", "")
    assert query.question == "a wolf comes\n\nSay in one short line what to do in the next 3.5 seconds."
    assert query.sampling.max_tokens == 64


def test_placeholders_in_an_observation_are_left_alone():
    settings = Settings(question="{previous} / {observation} / {horizon_s}")
    assert query_of(settings, "{previous}{horizon_s}", "{observation}").question == (
        "{observation} / {previous}{horizon_s} / 4"
    )


def test_choices_reach_the_query():
    settings = settings_of(
        {
            "students": ["a"],
            "complexity": "simple",
            "strategy": "single",
            "plan": True,
            "system": "You are a wolf.",
        }
    )
    query = query_of(settings, "x", "")
    assert (query.students, query.complexity, query.strategy) == (("a",), Complexity.SIMPLE, "single")
    assert query.json_schema == PLAN_SCHEMA
    assert [message.role for message in query.messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"hertz": 1}, "no 'hertz'"),
        ({"hz": 5}, "0.1 to 4"),
        ({"hz": "1"}, "0.1 to 4"),
        ({"hz": True}, "0.1 to 4"),
        ({"hz": float("nan")}, "0.1 to 4"),
        ({"horizon_s": 0}, "0.5 to 60"),
        ({"max_tokens": 1.5}, "a whole number"),
        ({"students": "a"}, "a list"),
        ({"students": ["a"] * 17}, "at most 16"),
        ({"question": "what now?"}, "{observation}"),
        ({"complexity": "hard"}, "simple"),
        ({"fallback": "x" * 1025}, "1,024 bytes"),
        ({"plan": True, "fallback": "stay"}, "JSON"),
        ({"plan": True, "json_schema": {}}, "one of them"),
        ({"json_schema": [1]}, "a JSON schema"),
        ({"system": 3}, "text"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(given, told):
    with pytest.raises(BadRequest) as refused:
        settings_of(given)
    assert told in str(refused.value)


def test_settings_come_back_from_disk_as_they_were(tmp_path):
    settings = settings_of(
        {"students": ["a", "b"], "hz": 2, "json_schema": {"type": "object"}, "fallback": "{}"}
    )
    save(tmp_path, "npc", settings)
    assert load(tmp_path, "npc") == settings
    (tmp_path / "half.json.part").write_text("{")
    (tmp_path / "NOT A NAME.json").write_text("{}")
    assert list(kept(tmp_path)) == ["npc"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"hz": 99}', "[" * 100_000])
def test_a_broken_file_is_told_and_not_believed(tmp_path, content):
    (tmp_path / "npc.json").write_text(content)
    with pytest.raises(BadRequest):
        load(tmp_path, "npc")
