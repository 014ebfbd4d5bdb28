"""The HTTP endpoint: OpenAI's and Ollama's shapes, our own `/api/ask`, health and metrics.

`application.make_web_app` wires the routes, `server.serve` listens within limits and stops gracefully,
`up` is the command. Requests become `Query` records, the ensemble's events become bytes; nothing here
decides who answers.
"""
