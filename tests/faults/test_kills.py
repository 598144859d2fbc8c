"""Stages that are killed at random moments and at random calls end as if they had not been: see kills.py."""

import json
import os
import pathlib
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_killed_stages_end_as_if_they_had_not_been():
    script, kills = pathlib.Path(__file__).with_name("kills.py"), os.environ.get("STGRPO_KILLS", "4")
    command = [sys.executable, str(script), f"--kills={kills}", "--a-run=2", "--seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kills"] == int(kills)
