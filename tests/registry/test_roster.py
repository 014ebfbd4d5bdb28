"""The roster: the embedded students where nothing is declared, else what the configuration says."""

import json
from pathlib import Path

import pytest

from studium.config import Config, load_config
from studium.errors import ConfigurationError, StudiumBug
from studium.records.models import Tier
from studium.registry import EMBEDDED, build_roster, embedded_students, ships_with_studium

YAML = """
models:
  - {name: base, engine: llamacpp, source: base.gguf, context_tokens: 512, slots: 2}
students:
  - {name: poet, model: base, system_prompt: Rhyme., sampling: {temperature: 0.7, top_k: 40}, tier: quality}
  - {name: critic, model: base, priority: 3}
"""


def declared(folder: Path, text: str) -> Config:
    file = folder / "studium.yaml"
    file.write_text(text)
    return load_config(file, environment={})


def test_without_a_configuration_the_embedded_students_serve():
    roster = build_roster(load_config(None, environment={}, folder=EMBEDDED))
    assert roster.embedded
    assert len(roster.students) >= 5
    for student in roster.students.values():
        assert Path(student.model.source).is_file()
        assert student.speciality
        assert max(student.skills.values()) > 0.5


def test_every_skill_is_answered_well_by_two_embedded_students():
    students = embedded_students().values()
    for skill in ("arithmetic", "sorting", "measures", "sentiment", "programs"):
        assert sum(student.skills[skill] > 0.5 for student in students) >= 2, skill


def test_who_makes_proposals_on_a_topic_says_so_and_draws_its_words():
    students = embedded_students()
    augur = students.pop("augur")
    assert list(augur.topics) == ["riemann"] and augur.sampling.temperature
    assert max(share for skill, share in augur.skills.items() if skill != "outside") < 0.1
    assert not any(one.topics or one.sampling.temperature for one in students.values())


def test_students_may_share_a_model(tmp_path: Path):
    roster = build_roster(declared(tmp_path, YAML))
    assert not roster.embedded
    assert set(roster.students) == {"poet", "critic"}
    assert set(roster.models) == {"base"}
    poet = roster.students["poet"]
    assert (poet.system_prompt, poet.sampling.temperature, poet.sampling.top_k) == ("Rhyme.", 0.7, 40)
    assert (poet.tier, poet.model.context_tokens, poet.model.slots) == (Tier.QUALITY, 512, 2)
    assert roster.students["critic"].priority == 3


def test_a_file_is_found_beside_the_configuration_that_names_it(tmp_path: Path):
    (tmp_path / "base.gguf").write_bytes(b"GGUF")
    beside = build_roster(declared(tmp_path, YAML)).models["base"].source
    assert beside == str(tmp_path / "base.gguf")
    elsewhere = (
        build_roster(declared(tmp_path, YAML.replace("base.gguf", "other.gguf"))).models["base"].source
    )
    assert elsewhere == "other.gguf"
    tag = "models: [{name: t, engine: ollama, source: base.gguf}]\nstudents: [{name: t}]\n"
    assert build_roster(declared(tmp_path, tag)).models["t"].source == "base.gguf"


def test_a_skill_is_the_share_right_over_all_its_levels(tmp_path: Path):
    scores = [
        {"skill": "sums", "level": 1, "asked": 100, "right": 90},
        {"skill": "sums", "level": 2, "asked": 100, "right": 40},
    ]
    (tmp_path / "tiny.json").write_text(
        json.dumps({"context_tokens": 256, "speciality": "sums", "scores": scores})
    )
    assert embedded_students(tmp_path)["tiny"].skills == {"sums": 0.65}


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"speciality": "x"}'])
def test_a_broken_card_names_its_student(tmp_path: Path, text: str):
    (tmp_path / "tiny.json").write_text(text)
    with pytest.raises(StudiumBug, match="embedded student tiny"):
        embedded_students(tmp_path)


def test_embedded_students_stay_beside_ones_own_where_that_is_wanted(tmp_path: Path):
    mine = YAML.replace("critic", "reviewer")
    roster = build_roster(declared(tmp_path, f"embedded_students: yes\n{mine}"))
    assert {"poet", "reviewer"} < set(roster.students)
    assert {name for name, one in roster.students.items() if ships_with_studium(one)} == set(
        embedded_students()
    )
    with pytest.raises(ConfigurationError, match="'critic' is the name of an embedded student"):
        build_roster(declared(tmp_path, f"embedded_students: yes\n{YAML}"))
