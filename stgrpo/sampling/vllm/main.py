"""Runs vLLM's API server in its own environment, and ends it when the process that started it is gone.

    PYTHON stgrpo/sampling/vllm/main.py [flags of vLLM's API server]

Not `vllm serve`, which fails where the distribution has another name (the CPU's). Standard input is a pipe that nobody
writes to: it ends when the starter does, whichever way that went.
"""

import os
import runpy
import signal
import sys
import threading


def _follow() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_follow, daemon=True).start()
    sys.path.pop(0)  # this folder, whose module names are none of vLLM's business
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
