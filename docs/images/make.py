"""Makes the pictures of the README anew.

python docs/images/make.py kitchen                  docs/images/kitchen.svg, from a layout of the benchmark
python docs/images/make.py report WORKDIR           docs/images/report.png, of a finished run; needs Chromium
"""

import argparse
import pathlib
import shutil
import subprocess

from stgrpo import envs
from stgrpo.envs.robotouille.draw.svg import draw_state
from stgrpo.errors import UserError
from stgrpo.report import build_report

FOLDER = pathlib.Path(__file__).parent
TASK, LAYOUT, STEPS = "lettuce_tomato_cheese_burger", "test:336", 29
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT, SCALE = 1160, 1200, 1.25
MOST_BYTES = 280_000


def kitchen_svg() -> str:
    """A kitchen of the benchmark after some steps of the expert, with what it does next."""
    environment = envs.get("robotouille")
    problem = environment.make(TASK, LAYOUT)
    planner, state = environment.planner(problem), problem.initial_state()
    for _ in range(STEPS):
        state = problem.step(state, planner.optimal_actions(state)[0])
    return draw_state(problem, state, action=planner.optimal_actions(state)[0])


def picture_of_report(workdir: pathlib.Path, target: pathlib.Path) -> None:
    """Builds the report of a work directory and takes a picture of its beginning.

    Raises:
        UserError: there is no Chromium, or the picture is too large for a README.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(
            f"picture: none of {', '.join(BROWSERS)} is installed: install one, such as `apt install chromium`"
        )
    page = build_report(workdir).resolve().as_uri()
    looks = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = [f"--window-size={WIDTH},{HEIGHT}", f"--force-device-scale-factor={SCALE}"]
    subprocess.run([browser, *looks, *size, f"--screenshot={target.resolve()}", page], check=True, capture_output=True)
    if target.stat().st_size > MOST_BYTES:
        raise UserError(f"{target}: {target.stat().st_size} bytes, at most {MOST_BYTES}: lower HEIGHT or SCALE")


def main() -> None:
    """Makes one picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=("kitchen", "report"))
    parser.add_argument("workdir", nargs="?", type=pathlib.Path, help="of a finished run, for the report")
    parser.add_argument("--out", type=pathlib.Path, help="write it there instead")
    given = parser.parse_args()
    if given.picture == "kitchen":
        (given.out or FOLDER / "kitchen.svg").write_text(kitchen_svg(), encoding="utf-8")
    elif given.workdir is None:
        parser.error("report: give the work directory of a finished run")
    else:
        picture_of_report(given.workdir, given.out or FOLDER / "report.png")


if __name__ == "__main__":
    main()
