"""What turns messages into text. One protocol (`protocol.py`), one module or folder per engine."""
