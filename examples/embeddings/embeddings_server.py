"""A small embedding model behind /v1/embeddings: the vectors that the package `wordllama` brings along.

    pip install wordllama
    python embeddings_server.py --port 8500

Nothing is downloaded and no GPU used: 32,000 token vectors of 256 numbers (16 MB), of which a text's embedding is the
mean. Other than that only the standard library. `GET /v1/models` says that it is there.
"""

import argparse
import contextlib
import json
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "wordllama-256"
MOST_BYTES = 1 << 20
MOST_TEXTS = 512

Embed = Callable[[Sequence[str]], list[list[float]]]


def wordllama_embed() -> Embed:
    """Return what turns texts into vectors of length 1. Raises ImportError without the package."""
    import wordllama

    # Both of the package's files lie in it; told so, it does not look for them on the network.
    here = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=here, disable_download=True)
    return lambda texts: [[float(value) for value in row] for row in model.embed(list(texts), norm=True)]


def make_server(embed: Embed, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """Return a server, listening but not yet serving; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60.0

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self._send(200, {"object": "list", "data": [{"id": NAME, "object": "model"}]})
            else:
                self._refuse(404, f"nothing is at {self.path}; embeddings are at /v1/embeddings")

        def do_POST(self) -> None:
            # Read first: what is left of a body would be taken for the next request.
            size = int(self.headers.get("Content-Length") or 0)
            if not 0 < size <= MOST_BYTES:
                self.close_connection = True
                return self._refuse(413, f"a body of {size} bytes; 1 to {MOST_BYTES} are taken")
            body = self.rfile.read(size)
            if self.path != "/v1/embeddings":
                return self._refuse(404, f"nothing is at {self.path}; embeddings are at /v1/embeddings")
            try:
                texts = texts_of(json.loads(body))
            except ValueError as error:
                return self._refuse(400, str(error))
            return self._send(200, embedding_list(embed(texts)))

        def _refuse(self, status: int, message: str) -> None:
            self._send(status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of requests: texts and addresses are nobody's business."""

    return ThreadingHTTPServer((host, port), Handler)


def texts_of(body: Any) -> list[str]:
    """Return the texts a request wants embedded. Raises ValueError."""
    wanted = body.get("input") if isinstance(body, dict) else None
    texts = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and one for one in texts):
        raise ValueError("`input` must be a text or a list of texts, none of them empty")
    if len(texts) > MOST_TEXTS:
        raise ValueError(f"{len(texts)} texts; at most {MOST_TEXTS} at once")
    if body.get("encoding_format", "float") != "float":
        raise ValueError("`encoding_format` must be float")
    return texts


def embedding_list(vectors: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return vectors in the shape of OpenAI's answer."""
    rows = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
    return {"object": "list", "model": NAME, "data": rows, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve text embeddings on this machine.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8500)
    told = parser.parse_args()
    with make_server(wordllama_embed(), told.host, told.port) as server:
        print(f"Embeddings at http://{told.host}:{server.server_port}/v1", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
