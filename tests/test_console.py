"""What is said on the console, and what goes to a file instead."""

from stgrpo.console import ProgramLog


def test_programs_are_counted_and_named_in_a_file_and_announced_once(tmp_path, capsys):
    path = tmp_path / "new" / "programs.log"
    programs = ProgramLog("grpo", path)
    assert programs.count == 0 and not path.exists()
    for name in ("update of one", "prefill", "update of one"):
        programs.met(name)
    assert programs.count == 2
    assert capsys.readouterr().out.splitlines() == [
        f"grpo: programs are compiled when they are first needed; their names are in {path}"
    ]
    lines = [line.split(" ", 2)[2] for line in path.read_text().splitlines()]
    assert lines == ["grpo: program 1, update of one", "grpo: program 2, prefill"]


def test_a_later_stage_adds_to_the_file(tmp_path):
    for stage in ("sft", "grpo"):
        ProgramLog(stage, tmp_path / "log").met("update")
    assert [line.split()[2] for line in (tmp_path / "log").read_text().splitlines()] == ["sft:", "grpo:"]
