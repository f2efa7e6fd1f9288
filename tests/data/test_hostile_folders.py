"""Folders that could mislead the kernel: every submitted row is of its own Id's photo."""

import pytest

import hostile_folders


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 29, 43])
def test_no_wrong_rows(tmp_path, seed):
    """One-hot labels of records, pixels of 0 to 1 in another order, and classes like folders."""
    case = hostile_folders.draw_case(tmp_path, seed)
    verdict, detail = hostile_folders.judge(case)
    assert verdict == "right", detail
