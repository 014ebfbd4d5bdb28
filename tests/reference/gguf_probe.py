"""Runs one GGUF file in llama.cpp and answers requests: a process of its own for the parity tests.

    gguf_probe.py FILE {f32|default} [LORA]  <requests.json  >answers.json

Requests are [path, body] pairs. "f32" keeps the cache in full precision without flash attention;
"default" is how students are served. A process of its own because a llama.cpp server that is
destroyed early can hang, and must not take the tests with it.
"""

import json
import os
import sys
import urllib.request
from typing import Any

import xllamacpp


def start(path: str, precision: str, adapters: list[str]) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = 512
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.verbosity = 0
    if precision == "f32":
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in adapters]
    return xllamacpp.Server(parameters)


def main() -> None:
    path, precision, *adapters = sys.argv[1:]
    server = start(path, precision, adapters)
    answers = []
    for route, body in json.load(sys.stdin):
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            server.listening_address + route, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answers.append(json.load(response))
    json.dump(answers, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
