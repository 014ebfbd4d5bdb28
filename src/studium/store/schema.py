"""The tables. `student_runs` and `hardware_snapshots` are a promise to every SQLite client (SES-6).

Columns promised there keep their names and units (`vram_mb` in MB of 10^6 bytes, also where the
memory is RAM because the machine has no GPU); what we add stands behind them.
"""

from typing import Any

from sqlalchemy import DDL, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text, event

metadata = MetaData()

NEVER_FALLS: dict[Any, Any] = {"never_falls": True}
"""Marks a column that keeps its larger value when a row is replaced."""

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

student_runs = Table(
    "student_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cycle", Integer, nullable=False),
    Column("student", Text, nullable=False),
    Column("vram_mb", Float),
    Column("time_seconds", Float, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("tokens_per_sec", Float),
    Column("success", Integer, nullable=False),
    Column("timestamp", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("load_seconds", Float, nullable=False),
    Column("error_code", Text, nullable=False),
)
Index("student_runs_by_student", student_runs.c.student, student_runs.c.id)

hardware_snapshots = Table(
    "hardware_snapshots",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("timestamp", Text, nullable=False),
    Column("vram_used", Float),
    Column("vram_total", Float),
    Column("ram_used", Float, nullable=False),
    Column("ram_total", Float, nullable=False),
    Column("cpu_percent", Float, nullable=False),
)

model_profiles = Table(
    "model_profiles",
    metadata,
    Column("model", Text, primary_key=True),
    # Two processes may share a workspace: what counts never goes back to the older one's figure.
    Column("runs", Integer, nullable=False, info=NEVER_FALLS),
    Column("failures", Integer, nullable=False, info=NEVER_FALLS),
    Column("loads", Integer, nullable=False, info=NEVER_FALLS),
    Column("peak_bytes", Integer),
    Column("load_seconds", Float),
    Column("unload_seconds", Float),
    Column("tokens_per_second", Float),
    Column("tokens_per_answer", Float),
    Column("run_seconds", Float),
    Column("prompt_tokens_per_second", Float),
    Column("name", Text, nullable=False, server_default=""),
    Column("engine", Text, nullable=False, server_default=""),
    Column("device", Text, nullable=False, server_default=""),
    Column("quantisation", Text, nullable=False, server_default=""),
    Column("weights_bytes", Integer),
    Column("kv_cache_bytes", Integer),
    Column("overhead_bytes", Integer),
    # What forecasts are made from, as JSON; the columns above are its typical values, for people.
    Column("statistics", Text, nullable=False, server_default="{}"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("path", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("api_key_name", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("complexity", Text, nullable=False),
    Column("answer_status", Text, nullable=False),
    Column("chosen_model", Text, nullable=False),
    Column("students_asked", Integer, nullable=False),
    Column("students_answered", Integer, nullable=False),
    Column("agreement", Float),
    Column("confidence", Float),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("cost_usd", Float),
    Column("error_code", Text, nullable=False),
)
Index("requests_by_time", requests.c.at)

examples = Table(
    "examples",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("domain", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("trainable", Integer, nullable=False),
    Column("cost_usd", Float),
    # The whole example as JSON, as it stands in datasets/training_metadata.jsonl.
    Column("body", Text, nullable=False),
)

spending_clock = Table(
    "spending_clock",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("boot_id", Text, nullable=False),
    Column("boot_s", Float, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("ledger_s", Float, nullable=False),
)

# What is to be paid for calls that go on. `assumed_minute` is where the whole of it was booked as spent, once its
# owner had not settled by `until_s`. All times are the ledger's.
reservations = Table(
    "reservations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("until_s", Float, nullable=False),
    Column("student", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("request", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("nanousd", Integer, nullable=False),
    Column("gpu_ms", Integer, nullable=False),
    Column("assumed_minute", Integer),
)
Index("reservations_open", reservations.c.assumed_minute, reservations.c.until_s)

spending_minutes = Table(
    "spending_minutes",
    metadata,
    Column("minute", Integer, primary_key=True),
    Column("nanousd", Integer, nullable=False),
    Column("gpu_ms", Integer, nullable=False),
    Column("assumed_nanousd", Integer, nullable=False),
    Column("assumed_gpu_ms", Integer, nullable=False),
)

spending_totals = Table(
    "spending_totals",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("nanousd", Integer, nullable=False),
    Column("gpu_ms", Integer, nullable=False),
)

governor_settings = Table(
    "governor_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("by", Text, nullable=False),
)

governor_changes = Table(
    "governor_changes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("by", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("old", Text),
    Column("new", Text),
)
GOVERNOR = (
    spending_clock,
    reservations,
    spending_minutes,
    spending_totals,
    governor_settings,
    governor_changes,
)

# What is kept of answers for feedback, with their questions: removed after `store.keep_answers`.
answers = Table(
    "answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("answer", Text),
    Column("status", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("complexity", Text, nullable=False),
    Column("chosen_model", Text, nullable=False),
    Column("agreement", Float, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("api_key_name", Text, nullable=False),
    # Each student's part, as JSON.
    Column("members", Text, nullable=False),
    Column("bytes", Integer, nullable=False),
)
Index("answers_by_request", answers.c.request_id)
Index("answers_by_time", answers.c.at)

# Facts, only ever added. Of grades with one key the newest counts; a weight of 0 takes the former one back.
grades = Table(
    "grades",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("student", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("score", Float, nullable=False),
    Column("weight", Float, nullable=False),
    Column("confidence", Float),
    Column("key", Text, nullable=False),
)
Index("grades_by_key", grades.c.key)
Index("grades_by_student", grades.c.student, grades.c.kind, grades.c.model, grades.c.id)

# The grades folded into counts, up to and including the grade `last_id`.
reliability = Table(
    "reliability",
    metadata,
    Column("student", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("right", Float, nullable=False),
    Column("wrong", Float, nullable=False),
    Column("last_id", Integer, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("rating", Text, nullable=False),
    Column("correction", Text, nullable=False),
    Column("api_key_name", Text, nullable=False),
    Column("note", Text, nullable=False),
)

question_kinds = Table(
    "question_kinds",
    metadata,
    Column("name", Text, primary_key=True),
    Column("size", Integer, nullable=False),
    # The centroids and the commonest words, as JSON.
    Column("body", Text, nullable=False),
)

# Replies to questions whose answers are known, several to each: which of them go together. No words of anybody's.
graded_replies = Table(
    "graded_replies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("question", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("student", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("right", Integer, nullable=False),
)
Index(
    "graded_replies_by_question",
    graded_replies.c.question,
    graded_replies.c.student,
    graded_replies.c.model,
    graded_replies.c.sample,
    unique=True,
)
RELIABILITY = (answers, grades, reliability, feedback, question_kinds)

# Answers kept to be given again. `scope` is all that must be equal for a question to be near by meaning, `guard` what
# must be equal in the question itself; `vector` its embedding, little-endian float32; `digest` tells a damaged body.
cached_answers = Table(
    "cached_answers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("guard", Text, nullable=False),
    Column("api_key_name", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("used_at", Float, nullable=False),
    Column("hits", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("vector", LargeBinary),
)
Index("cached_answers_by_meaning", cached_answers.c.scope, cached_answers.c.guard, cached_answers.c.at)
Index("cached_answers_by_use", cached_answers.c.used_at, cached_answers.c.bytes)

# One row at most: the switch, once somebody used it.
cache_switch = Table(
    "cache_switch",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("enabled", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("by", Text, nullable=False),
)
CACHE = (cached_answers, cache_switch)

# What was registered, as `records.adapters.Adapter`; mappings as JSON. `id` is the SHA-256 of its adapter_meta.json.
adapters = Table(
    "adapters",
    metadata,
    Column("role", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("base", Text, nullable=False),
    Column("base_sha256", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("serving_file", Text, nullable=False),
    Column("files", Text, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("registered_at", Float, nullable=False),
)

# Who serves each role now: the fold of `route_changes`, written in the same transaction.
routes = Table(
    "routes",
    metadata,
    Column("role", Text, primary_key=True),
    Column("champion", Text, nullable=False),
    Column("challenger", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("share", Float, nullable=False),
    Column("number", Integer, nullable=False),
)

# Every change of a route, in one chain: `sha256` covers the row and the hash of the row before.
route_changes = Table(
    "route_changes",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("role", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("adapter", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("token", Integer, nullable=False),
    Column("previous_sha256", Text, nullable=False),
    Column("sha256", Text, nullable=False),
)
Index("route_changes_by_role", route_changes.c.role, route_changes.c.number)

# What the gate measured; `id` is the SHA-256 of `body`, which is canonical JSON, `sha256` that of the row.
gate_evidence = Table(
    "gate_evidence",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Float, nullable=False),
    Column("role", Text, nullable=False),
    Column("champion", Text, nullable=False),
    Column("challenger", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("sha256", Text, nullable=False),
)

# Who may write what, one row a name. `token` only ever grows; `until_s` is seconds since the boot `boot_id`.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("token", Integer, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("until_s", Float, nullable=False),
)
REGISTRY = (adapters, routes, route_changes, gate_evidence, leases)

# A challenger's way through traffic; `number` is that of the change of the route that began it.
rollouts = Table(
    "rollouts",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("role", Text, nullable=False),
    Column("champion", Text, nullable=False),
    Column("challenger", Text, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("steps", Text, nullable=False),
    Column("quality", Text, nullable=False),
    Column("ended_at", Float),
    Column("outcome", Text, nullable=False),
    Column("evidence", Text, nullable=False),
)

# What one question told of both sides, as JSON by stream; in the shift one side is empty.
exposures = Table(
    "exposures",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("rollout", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("champion", Text, nullable=False),
    Column("challenger", Text, nullable=False),
)
Index("exposures_by_rollout", exposures.c.rollout, exposures.c.number)
Index("exposures_by_request", exposures.c.request_id)
ROLLOUTS = (rollouts, exposures)

for _table in (route_changes, gate_evidence):
    for _what in ("UPDATE", "DELETE"):
        event.listen(
            _table,
            "after_create",
            DDL(
                f"CREATE TRIGGER {_table.name}_no_{_what.lower()} BEFORE {_what} ON {_table.name} "
                f"BEGIN SELECT RAISE(ABORT, '{_table.name} is only ever added to'); END"
            ).execute_if(dialect="sqlite"),  # pyright: ignore[reportArgumentType]
        )

# Work that outlives the process that asked for it. `token` is that of the newest process begun for it; `request` and
# `error` are JSON.
jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("halt", Integer, nullable=False),
    Column("token", Integer, nullable=False),
    Column("process", Integer, nullable=False),
    Column("process_started", Float, nullable=False),
    Column("starts", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
)

job_steps = Table(
    "job_steps",
    metadata,
    Column("job", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("at", Float, nullable=False),
    Column("result", Text, nullable=False),
)
JOBS = (jobs, job_steps)
