"""What is not Python reaches an installed package too."""

import pathlib
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_template_and_asset_is_package_data():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "stgrpo.report"
    ]
    report = ROOT / "stgrpo" / "report"
    packed = {path for pattern in declared for path in report.glob(pattern)}
    files = {path for path in report.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert packed == files and len(files) > 5
