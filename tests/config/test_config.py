"""What a configuration means, and that a wrong one is refused with its place and a way out."""

from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studium.config import Config, leaves, load_config
from studium.config.units import format_duration, format_size, parse_duration, parse_size
from studium.errors import ConfigurationError, StudiumError

GIB = 1024**3


def load(folder: Path, text: str, **overrides: object) -> Config:
    path = folder / "studium.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environment={}, overrides=overrides)


def test_without_any_file_the_defaults_hold(tmp_path):
    config = load_config(None, environment={"STUDIUM_WORKSPACE": str(tmp_path)}, folder=tmp_path)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8377)
    assert config.fleet.memory_budget_bytes is None
    assert config.ensemble.limits("expert").max_models == 12
    assert config.file is None
    assert config.origins["server.port"] == "default"
    assert config.origins["workspace"] == "STUDIUM_WORKSPACE"
    assert not list(tmp_path.iterdir())


def test_values_keep_the_line_they_came_from(tmp_path):
    text = "server:\n  port: 9000\n\nfleet:\n  memory_budget: 6GiB\n  patience: 2m\n"
    config = load(tmp_path, text)
    assert config.server.port == 9000
    assert config.fleet.memory_budget_bytes == 6 * GIB
    assert config.fleet.patience_s == 120.0
    assert config.origins["server.port"] == "studium.yaml:2"
    assert config.origins["fleet.patience"] == "studium.yaml:6"
    assert config.origins["server.host"] == "default"


def test_the_command_line_wins_over_environment_over_file(tmp_path):
    (tmp_path / "studium.yaml").write_text("workspace: from-file\nserver: {port: 1}\n")
    environment = {"STUDIUM_WORKSPACE": str(tmp_path / "from-environment")}
    from_file = load_config(None, environment={}, folder=tmp_path)
    from_environment = load_config(None, environment=environment, folder=tmp_path)
    from_flag = load_config(
        None,
        environment=environment,
        overrides={"workspace": tmp_path / "from-flag", "server.port": 3, "server.host": None},
        folder=tmp_path,
    )
    assert from_file.workspace == tmp_path / "from-file"
    assert from_environment.workspace == tmp_path / "from-environment"
    assert from_flag.workspace == tmp_path / "from-flag"
    assert (from_flag.server.port, from_flag.origins["server.port"]) == (3, "--port")
    assert from_flag.origins["server.host"] == "default"


def test_the_file_in_the_current_folder_goes_before_the_workspaces(tmp_path):
    here, workspace = tmp_path / "here", tmp_path / "workspace"
    here.mkdir()
    workspace.mkdir()
    (workspace / "studium.yaml").write_text("server: {port: 2}")
    environment = {"STUDIUM_WORKSPACE": str(workspace)}
    assert load_config(None, environment=environment, folder=here).server.port == 2
    (here / "studium.yaml").write_text("server: {port: 1}")
    assert load_config(None, environment=environment, folder=here).server.port == 1


def test_a_section_given_in_part_keeps_its_other_defaults(tmp_path):
    config = load(tmp_path, "ensemble:\n  simple: {max_models: 2}\n")
    assert config.ensemble.simple.max_models == 2
    assert config.ensemble.simple.question_timeout_s == 30.0
    assert config.ensemble.expert.question_timeout_s == 120.0


def test_engines_models_and_students_are_read(tmp_path):
    config = load(
        tmp_path,
        """
engines:
  cloud:
    kind: openai_api
    url: https://api.example.com/v1
    api_key_env: EXAMPLE_KEY
    prices:
      big: {prompt_usd_per_million: 0.5, completion_usd_per_million: 1.5}
    options: {organisation: 12}
models:
  - {name: m1, engine: cloud, source: big, context_tokens: 4096}
students:
  - name: alpha
    model: m1
    sampling: {temperature: 0, stop: ["###"]}
  - {name: m1, priority: -2}
""",
    )
    assert config.engines["cloud"].prices["big"].completion_usd_per_million == 1.5
    assert config.engines["cloud"].options == {"organisation": "12"}
    assert config.students[0].sampling.temperature == 0.0
    assert config.students[0].sampling.stop == ("###",)
    assert config.students[1].model_name == "m1"
    assert config.origins["students.alpha.sampling.temperature"] == "studium.yaml:15"
    assert config.origins["models.m1.slots"] == "default"


def test_the_shipped_example_changes_nothing():
    example = Path(str(files("studium") / "examples" / "studium.yaml"))
    shipped = load_config(example, environment={})
    plain = load_config(None, environment={}, folder=Path("/nonexistent"))
    assert dict(leaves(shipped)) == dict(leaves(plain))


def test_the_shipped_roster_for_ollama_has_six_students_with_models_of_their_own():
    config = load_config(
        Path(str(files("studium") / "examples" / "six-students-ollama.yaml")), environment={}
    )
    assert [student.name for student in config.students] == [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
    ]
    assert all(student.base and student.system_prompt and student.speciality for student in config.students)
    assert len({student.model_name for student in config.students}) == 6
    assert {model.engine for model in config.models} == {"ollama"}


def test_the_example_of_students_of_ones_own_is_valid_when_uncommented(tmp_path):
    example = Path(str(files("studium") / "examples" / "studium.yaml")).read_text()
    head, _, tail = example.partition("# engines:\n")
    uncommented = "engines:\n" + "\n".join(line[2:] for line in tail.splitlines())
    config = load(tmp_path, uncommented)
    assert head
    assert [student.name for student in config.students] == ["alpha"]


def test_an_empty_file_is_no_configuration(tmp_path):
    assert load(tmp_path, "# nothing\n").server.port == 8377
    assert load(tmp_path, "server:\n").server.port == 8377


WRONG = {
    "unknown key": ("server:\n  prot: 1\n", "studium.yaml:2", "did you mean 'port'"),
    "unknown section": ("sever: {}\n", "studium.yaml:1", "did you mean 'server'"),
    "not a number": ("server: {port: http}\n", "server.port is 'http'", "a whole number from 0 to 65535"),
    "number too large": ("server: {port: 70000}\n", "'70000'", "65535"),
    "boolean for a number": ("server: {port: true}\n", "'true'", "a whole number"),
    "boolean for text": ("server: {host: no}\n", "'no'", "quotes"),
    "no unit": ("fleet: {patience: 30}\n", "fleet.patience is '30'", "30s"),
    "wrong unit": ("fleet: {memory_budget: 6 gigs}\n", "'6 gigs'", "gib"),
    "negative duration": ("fleet: {patience: -5s}\n", "'-5s'", "such as 30s"),
    "no duration": ("fleet: {patience: 0s}\n", "'0s'", "longer than zero"),
    "two budgets": (
        "fleet: {memory_budget: 1GiB, devices: [{name: a, memory: 1GiB}]}\n",
        "are both given",
        "one budget, or the memory of each device",
    ),
    "device twice": (
        "fleet: {devices: [{name: a, memory: 1GiB}, {name: a, memory: 2GiB}]}\n",
        "'a' is already used",
        "each name once in fleet.devices",
    ),
    "device without memory": ("fleet: {devices: [{name: a}]}\n", "has no 'memory'", "memory:"),
    "unknown device": (
        "fleet: {devices: [{name: a, memory: 1GiB, kind: tpu}]}\n",
        "'tpu'",
        "one of cpu, gpu",
    ),
    "negative size": ("fleet: {memory_budget: -1GiB}\n", "'-1GiB'", "or auto"),
    "absurd size": (f"fleet: {{memory_budget: {'9' * 38}TB}}\n", "999", "fits"),
    "absurd integer": (f"server: {{port: {'9' * 5000}}}\n", "999", "a whole number"),
    "not finite": (
        "models: [{name: a, engine: e, source: s}]\nstudents: [{name: a, sampling: {temperature: .nan}}]\n",
        "students.a.sampling.temperature",
        "a number from 0 to 5",
    ),
    "list for a section": ("server: [1]\n", "server is a list", "a section"),
    "section for a value": ("server: {port: {a: 1}}\n", "server.port is a section", "a single value"),
    "value for a list": ("models: alpha\n", "models is 'alpha'", "a list"),
    "choice": ("log: {level: infos}\n", "'infos'", "did you mean 'info'"),
    "duplicate key": ("server:\n  port: 1\n  port: 2\n", "studium.yaml:3", "already at studium.yaml:2"),
    "duplicate model": (
        "models:\n - {name: a, engine: e, source: s}\n - {name: a, engine: e, source: s}\n",
        "studium.yaml:3",
        "studium.yaml:2",
    ),
    "nobody speaks": (
        "models:\n - {name: vectors, engine: e, source: s, embeddings: yes}\n - {name: a, engine: e, source: s}\n",
        "studium.yaml:3",
        "- name: a",
    ),
    "unknown model": (
        "models:\n - {name: alpha, engine: e, source: s}\nstudents:\n - {name: x, model: alfa}\n",
        "studium.yaml:4",
        "did you mean 'alpha'",
    ),
    "missing key": ("models:\n - {name: a, engine: e}\n", "models.a has no 'source'", "source:"),
    "path as a name": ("models:\n - {name: ../a, engine: e, source: s}\n", "'../a'", "a name of a-z"),
    "path as an engine": ("engines: {../a: {kind: ollama}}\n", "'../a'", "a name of a-z"),
    "limits crossed": (
        "ensemble: {simple: {min_models: 9}}\n",
        "studium.yaml:1: ensemble.simple asks at least 9",
        "min_models no larger",
    ),
    "not yaml": ("server:\n  port: [1\n", "studium.yaml:3", "not YAML"),
    "tab": ("server:\n\tport: 1\n", "studium.yaml:2", "not YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "studium.yaml:2", "not YAML"),
    "only text": ("hello\n", "studium.yaml:1", "no keys"),
    "tag": ("server: !!python/object:os.system {}\n", "tag", "plain values"),
    "list as key": ("? [a]\n: 1\n", "studium.yaml:1", "a word as key"),
    "control character": ("a: \x07\n", "not YAML", "config init"),
    "deep nesting": ("a: " + "[" * 100_000, "nested", "unclosed"),
    "address with password": ("engines: {a: {kind: k, url: 'http://u:hidden@h'}}\n", "not shown", "password"),
}


@pytest.mark.parametrize(("text", "happened", "way_out"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_with_its_place_and_a_way_out(tmp_path, text, happened, way_out):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert happened in caught.value.happened
    assert way_out in str(caught.value)
    assert caught.value.expected
    assert caught.value.try_next
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["api_key: sk-very-secret", "api_key_env: sk-very-secret", "token: sk-very-secret"]
)
def test_a_secret_in_the_file_is_refused_without_being_repeated(tmp_path, line):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, f"engines:\n  cloud:\n    kind: openai_api\n    {line}\n")
    assert "studium.yaml:4" in caught.value.happened
    assert "environment variable" in caught.value.expected
    assert "sk-very-secret" not in repr(caught.value)


def test_aliases_that_multiply_are_stopped(tmp_path):
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(ConfigurationError, match="grows beyond"):
        load(tmp_path, "\n".join(layers))


def test_a_wrong_option_of_the_command_line_names_the_option(tmp_path):
    with pytest.raises(ConfigurationError, match="^--memory-budget: fleet.memory_budget is 'lots'"):
        load(tmp_path, "", **{"fleet.memory_budget": "lots"})


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"server:\n  host: \xff\n", "studium.yaml:2: byte 0xff"), (b"#" * 300_000, "larger than 256 KiB")],
)
def test_a_file_that_is_no_text_is_refused(tmp_path, content, message):
    path = tmp_path / "studium.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        load_config(path, environment={})


def test_a_folder_or_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="is a directory"):
        load_config(tmp_path, environment={})
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_config(tmp_path / "none.yaml", environment={})


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("8GiB", 8 * GIB), ("500 MB", 500_000_000), ("1.5kib", 1536), ("0", 0), ("17B", 17)],
)
def test_sizes_are_read_with_their_units(text, num_bytes):
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("2m", 120), ("250 ms", 0.25), ("1h", 3600), ("1d", 86400)]
)
def test_durations_are_read_with_their_units(text, seconds):
    assert parse_duration(text) == seconds


@given(st.integers(0, 2**62))
def test_a_written_size_reads_back_within_its_two_places(num_bytes):
    assert abs(parse_size(format_size(num_bytes)) - num_bytes) <= max(1, num_bytes * 0.005)


@given(st.integers(1, 10**6).map(float))
def test_a_written_duration_reads_back_the_same(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_no_text_does_worse_than_a_studium_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("config") / "studium.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_config(path, environment={})
    except StudiumError as error:
        assert error.expected
