"""Models that an Ollama server runs.

`http.py` its API as bytes and errors, `sizes.py` what a model will occupy, `derive.py` students as models of
their own (requirement SES-2), `pull.py` fetching them, `engine.py` the engine.
"""

from studium.engines.ollama.derive import Derivation, modelfile
from studium.engines.ollama.engine import OllamaEngine
from studium.engines.ollama.pull import STALL_S, Progress

__all__ = ["STALL_S", "Derivation", "OllamaEngine", "Progress", "modelfile"]
