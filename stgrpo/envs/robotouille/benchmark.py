"""The ten test layouts of each task on which the benchmark evaluates, by testing seed.

Positions are facts of the benchmark (github.com/portal-cornell/robotouille, MIT, commit c8236a2; see NOTICE), written
in the notation of `kitchen.py`. A line that is indented continues the one above it.
"""

from functools import cache

TESTING_SEEDS = (42, 84, 126, 168, 210, 252, 294, 336, 378, 420)


@cache
def benchmark_layouts() -> dict[str, dict[int, str]]:
    """Returns task -> testing seed -> kitchen."""
    tables: dict[str, dict[int, str]] = {}
    task, seed = "", 0
    for line in _TABLE.strip().splitlines():
        if line.startswith(" "):
            tables[task][seed] += " " + line.strip()
        elif line[0].isdigit():
            number, _, kitchen = line.partition(": ")
            seed = int(number)
            tables[task][seed] = kitchen
        else:
            task = line
            tables[task] = {}
    return tables


_TABLE = """
cheese_sandwich
42: robot 0,1 at 0,0 | table 0,0 cheese | board 0,4 topbun | table 1,1 | stove 1,3 | table 1,4 bread |
    sink 2,1 bread | table 3,0 onion(iscuttable) | table 3,4 | board 4,4
84: robot 2,1 at 2,0 | stove 1,0 topbun | table 1,1 | fryer 1,3 | stove 1,4 patty(iscookable) | table 2,0 bread |
    sink 2,4 bread | board 3,0 bread | board 3,4 topbun | table 4,0 cheese | table 4,2
126: robot 1,4 at 0,4 holding tomato(iscuttable) | sink 0,2 | fryer 0,4 bread | stove 1,1 cheese | table 1,2 |
    board 1,3 cheese | stove 2,1 | table 3,3 patty(iscookable) | table 3,4 patty(iscookable) | table 4,0 | stove 4,1 |
    table 4,3 bread
168: robot 0,3 at 0,4 | fryer 0,0 | sink 0,1 | board 0,4 bread | table 1,1 cheese | stove 1,4 | sink 2,3 bread |
    table 3,0 | fryer 3,4 lettuce(iscuttable) | sink 4,1 topbun | table 4,2 | table 4,3
210: robot 1,3 at 0,3 | table 0,2 | table 0,3 bread | board 0,4 | table 1,0 cheese | table 2,1 cheese | table 2,3 |
    table 2,4 | table 3,0 bread | sink 4,0 | table 4,4
252: robot 3,0 at 4,0 holding bottombun | stove 0,2 patty(iscookable) | fryer 0,4 | stove 1,1 | table 1,2 cheese |
    table 1,4 lettuce(iscuttable) | sink 2,0 | table 2,2 lettuce(iscuttable) | sink 2,4 bread | table 3,4 |
    board 4,0 bread | stove 4,1 chicken(iscookable) | stove 4,2 lettuce(iscuttable) | table 4,4
294: robot 0,4 at 0,3 | table 0,3 bread | stove 1,0 bread | table 2,2 | table 2,3 | table 3,1 | table 3,3 bread |
    sink 3,4 cheese | table 4,3
336: robot 1,3 at 1,4 | table 1,4 bread | table 2,1 cheese | table 3,0 bread | table 3,4
378: robot 3,4 at 3,3 | table 1,1 | table 1,3 bread | table 3,0 cheese | table 3,3 bread
420: robot 4,3 at 4,4 holding cheese | table 0,0 | table 0,2 | table 0,4 bread | stove 1,0 patty(iscookable) |
    table 2,2 | table 2,3 | fryer 2,4 | sink 3,1 | stove 3,2 tomato(iscuttable) | table 3,3 cheese | table 4,4 bread
burger
42: robot 0,1 at 0,0 | table 0,0 bottombun | table 0,4 topbun | table 1,1 | stove 1,3 | table 1,4 topbun |
    sink 2,1 patty(iscooked) | sink 3,0 onion(iscuttable) | sink 3,1 tomato(iscuttable) | table 3,4 | table 4,4
84: robot 2,1 at 2,0 | table 1,0 topbun | stove 1,1 bottombun | fryer 1,3 | stove 1,4 patty(iscookable) |
    table 2,0 topbun | sink 2,4 bread | board 3,0 patty(iscooked) | board 3,4 topbun | table 4,1 | stove 4,2
126: robot 1,4 at 0,4 holding tomato(iscuttable) | sink 0,2 | fryer 0,4 bottombun | stove 1,1 patty(iscooked) |
    board 1,3 cheese | table 2,1 | table 3,3 patty(iscookable) | table 3,4 patty(iscookable) | table 4,0 | stove 4,1 |
    board 4,3 topbun
168: robot 0,3 at 0,4 | table 0,0 | sink 0,1 | board 0,4 topbun | table 1,1 | stove 1,4 | sink 2,3 patty(iscooked) |
    table 3,0 bottombun | fryer 3,4 lettuce(iscuttable) | sink 4,1 topbun | table 4,2 | board 4,3
210: robot 1,3 at 0,3 | table 0,1 patty(iscookable) | table 0,2 | table 0,3 bottombun | board 0,4 | table 1,0 topbun |
    board 2,1 cheese | table 2,3 | table 2,4 | table 3,0 patty(iscooked) | sink 4,0
252: robot 3,0 at 4,0 holding bottombun | table 0,4 | stove 1,1 patty(iscooked) | table 2,2 lettuce(iscuttable) |
    table 2,3 tomato(iscuttable) | sink 2,4 topbun | stove 3,3 | board 4,0 bottombun | stove 4,1 chicken(iscookable) |
    table 4,2 lettuce(iscuttable)
294: robot 0,4 at 0,3 | table 0,3 bottombun | stove 1,0 topbun | table 2,2 | table 2,3 | table 3,1 | table 3,3 bread |
    sink 3,4 patty(iscooked) | stove 4,3
336: robot 1,3 at 1,4 | table 1,4 bottombun | table 2,1 topbun | table 3,0 patty(iscooked)
378: robot 3,4 at 3,3 | table 1,3 topbun | table 3,0 patty(iscooked) | table 3,3 bottombun
420: robot 2,4 at 2,3 | table 0,0 patty(iscooked) | table 0,4 topbun | table 2,3 bottombun
cheese_burger
42: robot 0,1 at 0,0 | table 0,0 topbun | board 0,4 topbun | table 1,1 cheese | table 1,3 | table 1,4 bottombun |
    table 2,0 | sink 3,0 onion(iscuttable) | table 3,1 patty(iscooked) | table 3,4 | table 4,4
84: robot 2,1 at 2,0 | stove 1,0 topbun | table 1,1 | table 1,3 patty(iscooked) | stove 1,4 patty(iscookable) |
    table 2,0 bottombun | sink 2,4 bread | board 3,4 topbun | table 4,0 cheese | table 4,1 | stove 4,2 topbun
126: robot 1,4 at 0,4 holding tomato(iscuttable) | sink 0,2 | fryer 0,4 bottombun | stove 1,1 cheese | table 1,2 |
    table 1,3 cheese | stove 2,1 | table 3,3 patty(iscooked) | table 3,4 patty(iscookable) | table 4,0 | stove 4,1 |
    board 4,3 topbun
168: robot 0,3 at 0,4 holding patty(iscooked) | board 0,4 bottombun | table 1,1 | table 2,4 cheese | table 3,0 |
    table 4,2 topbun
210: robot 1,3 at 0,3 | table 0,1 patty(iscookable) | table 0,2 | table 0,3 bottombun | board 0,4 | table 1,0 cheese |
    table 2,1 patty(iscooked) | table 2,3 | table 2,4 | table 3,0 topbun | sink 4,0 | table 4,4
252: robot 3,0 at 4,0 holding bottombun | stove 1,1 cheese | table 2,0 | table 2,2 lettuce(iscuttable) |
    table 2,4 topbun | stove 3,3 patty(iscooked) | table 4,0 bottombun | stove 4,1 chicken(iscookable)
294: robot 0,4 at 0,3 | table 0,3 bottombun | table 1,0 topbun | table 2,2 patty(iscooked) | table 2,3 | table 3,1 |
    table 3,3 bread | sink 3,4 cheese | stove 4,3
336: robot 1,3 at 1,4 | table 1,4 bottombun | table 2,1 cheese | table 3,0 topbun | table 3,4 patty(iscooked)
378: robot 3,4 at 3,3 | table 1,1 patty(iscooked) | table 1,3 topbun | table 3,0 cheese | table 3,3 bottombun
420: robot 4,3 at 4,4 holding cheese | table 0,0 | table 0,4 bottombun | table 1,0 patty(iscookable) |
    table 1,2 topbun | table 2,2 | fryer 2,3 | table 2,4 | sink 3,1 | stove 3,2 tomato(iscuttable) |
    table 3,3 cheese | table 4,4 patty(iscooked)
double_cheese_burger
42: robot 0,1 at 0,0 | table 0,0 cheese | board 0,4 patty(iscooked) | table 1,1 patty(iscooked) | table 1,3 |
    table 1,4 bottombun | table 2,1 topbun | sink 3,0 onion(iscuttable) | sink 3,1 cheese | table 3,4 | table 4,4
84: robot 2,1 at 2,0 | table 0,0 bottombun | stove 1,0 topbun | fryer 1,3 patty(iscooked) |
    table 1,4 patty(iscookable) | table 2,0 bottombun | sink 2,4 bread | table 3,0 topbun |
    board 3,4 patty(iscooked) | table 4,0 cheese | stove 4,2 cheese
126: robot 1,4 at 0,4 holding tomato(iscuttable) | sink 0,2 patty(iscooked) | fryer 0,4 bottombun | board 1,3 cheese |
    table 2,1 | table 3,2 | table 3,3 cheese | table 4,0 | stove 4,1 patty(iscooked) | board 4,3 topbun
168: robot 0,3 at 0,4 holding cheese | fryer 0,0 | table 0,1 | table 0,4 bottombun | table 1,1 cheese | stove 1,4 |
    board 2,1 patty(iscooked) | sink 2,3 topbun | fryer 3,4 lettuce(iscuttable) | sink 4,1 patty(iscooked) |
    table 4,2 | board 4,3
210: robot 1,3 at 0,3 | stove 0,0 cheese | table 0,1 patty(iscooked) | table 0,2 | table 0,3 bottombun | board 0,4 |
    board 2,1 cheese | table 2,3 | table 2,4 patty(iscooked) | table 3,0 topbun | board 3,1 | sink 4,0 | table 4,4
252: robot 4,1 at 4,0 holding patty(iscooked) | table 2,2 cheese | table 3,1 cheese | table 3,4 topbun |
    board 4,0 bottombun | table 4,4 patty(iscooked)
294: robot 0,4 at 0,3 | table 0,3 bottombun | stove 1,0 topbun | table 2,2 cheese | table 2,3 | table 3,1 |
    table 3,3 patty(iscooked) | table 3,4 cheese | stove 4,3 patty(iscooked)
336: robot 3,3 at 3,4 holding cheese | stove 2,0 topbun | board 2,2 patty(iscooked) | table 2,3 |
    table 3,0 patty(iscooked) | board 3,4 bottombun | table 4,2 | table 4,4 cheese
378: robot 2,3 at 2,4 | table 0,0 patty(iscooked) | sink 2,4 bottombun | table 3,1 cheese | table 3,2 |
    table 3,4 topbun | fryer 4,1 cheese | table 4,2 patty(iscooked)
420: robot 4,3 at 4,4 holding cheese | table 0,0 | table 0,2 patty(iscooked) | stove 0,4 bottombun |
    stove 1,0 patty(iscookable) | table 2,2 | fryer 2,3 cheese | table 2,4 | sink 3,1 | table 3,2 patty(iscooked) |
    table 3,3 cheese | table 4,4 topbun
"""
