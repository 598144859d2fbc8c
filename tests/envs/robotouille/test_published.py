"""The paper's tables, which the report shows beside ours."""

import pytest

from stgrpo.envs.robotouille.published import POLICIES, RESULTS, published_results, published_transfer


@pytest.mark.parametrize("name", ["cheese_sandwich", "burger", "cheese_burger", "cheeseburger", "double_cheese_burger"])
def test_the_papers_rows_are_found_for_each_of_its_tasks(name):
    assert [row.policy for row in published_results(name)[0].rows] == list(POLICIES)


def test_the_papers_rows_are_consistent_with_their_caps():
    # ASAT = SR * ASST + (1 - SR) * cap, to the rounding of the print and of the successes' mean.
    caps = {"cheesesandwich": 15, "burger": 15, "cheeseburger": 23, "doublecheeseburger": 35}
    for task, cap in caps.items():
        for row in published_results(task)[0].rows:
            expected = row.sr * (row.asst or 0) + (1 - row.sr) * cap
            assert row.asat == pytest.approx(expected, abs=0.11), (task, row)
    assert published_results("soup") == ()


def test_the_papers_pooled_gain_is_twenty_against_nine():
    pooled = [sum(published_results(task)[0].rows[i].successes for task in RESULTS) for i in (-1, -2)]
    assert pooled == [20, 9]


def test_the_diagonal_of_the_papers_matrix_is_its_main_table_and_asat_follows_from_the_rest():
    caps = {"cheese_sandwich": 15, "burger": 15, "cheese_burger": 23, "double_cheese_burger": 35}
    for trained in caps:
        assert published_transfer(trained, trained) == published_results(trained)[0].rows[-1]
        for task, cap in caps.items():
            row = published_transfer(trained, task)
            assert row.asat == pytest.approx(row.sr * (row.asst or 0) + (1 - row.sr) * cap, abs=0.11), (trained, task)
    assert published_transfer("burger", "soup") is None
