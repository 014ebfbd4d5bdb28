"""The example roster of six students (requirements SES-1 and SES-2), created for real on the scripted server."""

from importlib.resources import files
from pathlib import Path

from studium.config import load_config
from studium.engines.ollama import OllamaEngine
from studium.engines.ollama.derive import Outcome
from studium.engines.scripted import Script, says
from studium.engines.scripted.server import serving
from studium.registry import build_roster

ROSTER = Path(str(files("studium") / "examples" / "six-students-ollama.yaml"))
BASES = {
    "alpha": "nous-hermes",
    "beta": "qwen2-math",
    "gamma": "mistral",
    "delta": "llama2",
    "epsilon": "neural-chat",
    "zeta": "codegemma",
}


async def test_the_six_students_of_the_example_are_created_once_from_their_bases():
    config = load_config(ROSTER, environment={})
    students = build_roster(config).students
    assert {student.name: student.base for student in config.students} == BASES
    assert all(student.speciality and student.system_prompt for student in students.values())
    assert len({student.priority for student in students.values()}) == len(BASES)
    async with serving(Script({base: says("x") for base in BASES.values()})) as running:
        engine = OllamaEngine(running.url)
        for expected in (Outcome.CREATED, Outcome.UNCHANGED):
            made = [await engine.create_student(students[name], base) for name, base in BASES.items()]
            assert [one.outcome for one in made] == [expected] * len(BASES)
        assert {f"rh-{name}:latest" for name in BASES} <= set(await engine.models())
        await engine.close()
