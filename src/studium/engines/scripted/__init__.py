"""The engine that says what a script tells it to: the test bed for everything above the engines.

`script.py` what a script may declare, `read.py` its YAML form, `speech.py` what is said (pure), `engine.py` the
engine, `server.py` the same behaviour as a stand-alone HTTP server.
"""

from studium.engines.scripted.engine import Event, ScriptedEngine
from studium.engines.scripted.read import read_script
from studium.engines.scripted.script import Fault, FaultKind, ModelScript, Rule, Script, says

__all__ = [
    "Event",
    "Fault",
    "FaultKind",
    "ModelScript",
    "Rule",
    "Script",
    "ScriptedEngine",
    "read_script",
    "says",
]
