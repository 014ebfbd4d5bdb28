"""The tables a session adds to the promised two (SES-6), in its own `student_profiles.db`.

`session_runs` stands beside `student_runs`, one row each, and holds what is not promised: what was asked, what came
back, what it was judged to be worth, and when it waited for what (enough to replay the session).
"""

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, Table, Text, UniqueConstraint

from studium.store import schema

VERSION = 1

metadata = MetaData()

session = Table(
    "session",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("plan", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("active_seconds", Float, nullable=False),
)

session_cycles = Table(
    "session_cycles",
    metadata,
    Column("cycle", Integer, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("began_at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("ended", Integer, nullable=False),
    Column("budget_bytes", Integer, nullable=False),
)

session_runs = Table(
    "session_runs",
    metadata,
    Column("run_id", Integer, ForeignKey(schema.student_runs.c.id), primary_key=True),
    Column("cycle", Integer, nullable=False),
    Column("student", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("memory_bytes", Integer),
    Column("asked_at", Float, nullable=False),
    Column("priority", Text, nullable=False),
    Column("queue_seconds", Float, nullable=False),
    Column("run_seconds", Float, nullable=False),
    Column("max_tokens", Integer, nullable=False),
    Column("subject", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("finish", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("score", Float),
    Column("useful", Integer, nullable=False),
    Column("claims", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # Whatever is killed and resumed: one student proposes once per cycle.
    UniqueConstraint("cycle", "student"),
)
