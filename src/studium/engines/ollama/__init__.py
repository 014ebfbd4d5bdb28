"""Models that an Ollama server runs.

`http.py` its API as bytes and errors, `sizes.py` what a model will occupy, `derive.py` students as models of
their own (requirement SES-2), `engine.py` the engine.
"""

from studium.engines.ollama.derive import Derivation, modelfile
from studium.engines.ollama.engine import OllamaEngine
from studium.engines.ollama.http import Progress

__all__ = ["Derivation", "OllamaEngine", "Progress", "modelfile"]
