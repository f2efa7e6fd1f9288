"""In a notebook all three ways to run the kernel work, and the result appears below the cell."""

from pathlib import Path

import cv2
import nbclient
import nbformat
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import kernel
from kernelkit.report.writing import finish
from saved_run import write_run

SMALL = [
    *("--backbone", "Plain", "--weights", "none", "--image-size", "48", "--preflight", "no"),
    *("--stages", "head:0:1e-3:1:views=1", "--tta", "1"),
]


def kinds(outputs: list[dict]) -> list[str]:
    """Return what is shown below a cell, in order: text/markdown or image/png."""
    wanted = ("text/markdown", "image/png")
    return [kind for data in outputs for kind in wanted if kind in data]


@pytest.fixture
def shell():
    """The shell of IPython, in this process."""
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_a_finished_run_shows_its_head_and_its_figures(shell, tmp_path):
    folder = write_run(tmp_path / "run", wrong={1: 1})
    for name in ("learning_curves.png", "confusion_matrix.png"):  # the third is not there
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    with capture_output() as seen:
        finish(folder)
    shown = [output.data for output in seen.outputs]
    assert kinds(shown) == ["text/markdown", "image/png", "image/png"]
    assert "**accuracy 0.9875** on 80 validation photos" in shown[0]["text/markdown"]
    assert f"[The report]({folder / 'report.html'})" in shown[0]["text/markdown"]


@pytest.mark.slow
def test_all_three_ways_work_in_jupyter(competition, tmp_path):
    text = Path(kernel.__file__).read_text(encoding="utf-8")
    words = [
        [*SMALL, "--data", str(competition), "--output", str(tmp_path / name)]
        for name in ("run", "imported", "pasted")
    ]
    pasted = text.replace("\n        main([])\n", f"\n        main({words[2]})\n")
    assert pasted != text
    ways = f"%run kernel.py {' '.join(words[0])}", f"import kernel\nkernel.main({words[1]})", pasted
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(way) for way in ways])
    places = {"metadata": {"path": str(Path(kernel.__file__).parent)}}
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=places).execute()
    for cell, name in zip(book.cells, ("run", "imported", "pasted"), strict=True):
        assert kinds([output.get("data", {}) for output in cell.outputs]) == [
            "text/markdown", *["image/png"] * 3,
        ]  # fmt: skip
        assert (tmp_path / name / "submission.csv").is_file()
