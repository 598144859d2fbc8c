"""The pictures of the README are those that the command in docs/environments.md makes."""

import pathlib
import runpy
import shutil
import struct

import pytest

IMAGES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "images"


@pytest.fixture(scope="module")
def make() -> dict:
    return runpy.run_path(str(IMAGES / "make.py"))


def test_the_kitchen_is_drawn_by_the_code_of_today(make):
    assert (IMAGES / "kitchen.svg").read_text(encoding="utf-8") == make["kitchen_svg"]()


def test_the_report_is_photographed(make, tmp_path):
    if not any(map(shutil.which, make["BROWSERS"])):
        pytest.skip("no Chromium")
    make["picture_of_report"](tmp_path, tmp_path / "report.png")
    head = (tmp_path / "report.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:]) == (1450, 1500)


def test_without_chromium_the_error_says_what_to_install(make, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(make["UserError"], match="install one"):
        make["picture_of_report"](tmp_path, tmp_path / "report.png")
