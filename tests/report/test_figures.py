"""Each figure is a readable PNG, whatever the classes and however many, and is written whole."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kernelkit.report import figures

LIB = Path(__file__).parents[2] / "lib"
NAMES = {
    "numbers": list(range(10)),
    "text": ["a very long name of a car model, with $x_1$ and % in it", "Ünïcode", "c"],
    "one": [7],
    "hundred": list(range(100)),
}


@pytest.fixture
def drawing(monkeypatch):
    """Collect the figures that are saved."""
    saved = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (saved.append(self), savefig(self, *a, **k))[1]
    )
    return saved


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def size_of(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn
        return image.size


def history(stages, rate=1e-3):
    rows = [
        (stage, epoch, 1 / (1 + n), n / 50, 1 / (2 + n), n / 60, rate, 9.5, 120.0)
        for n, (stage, epoch) in enumerate(
            (stage, epoch) for stage, epochs in stages for epoch in range(1, epochs + 1)
        )
    ]
    columns = ["stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
    return pd.DataFrame(rows, columns=[*columns, "seconds", "images_per_second"])


@pytest.mark.parametrize("names", NAMES)
def test_class_balance(tmp_path, names, drawing):
    counts = pd.DataFrame({"train": 1371, "validation": 42}, index=NAMES[names])
    figures.class_balance(counts, tmp_path / "balance.png")
    width, height = size_of(tmp_path / "balance.png")
    assert width == 960
    assert height > 12 * len(counts)
    shown = texts(drawing[0])
    assert shown.count("1,371 + 42") == len(counts)
    assert {str(name)[:8] for name in NAMES[names]} <= {text[:8] for text in shown}


@pytest.mark.parametrize("names", NAMES)
def test_confusion_matrix(tmp_path, names, drawing):
    classes = NAMES[names]
    true = [classes[i % len(classes)] for i in range(300)]
    predicted = [classes[0], *true[1:-1], classes[0]]
    figures.confusion_matrix(true, predicted, classes, tmp_path / "confusion.png")
    size_of(tmp_path / "confusion.png")
    wrong = sum(t != p for t, p in zip(true, predicted, strict=True))
    assert f"{1 - wrong / 300:.2%} of 300 photos right" in texts(drawing[0])


def test_the_confusion_matrix_counts_by_label_and_shows_recall(tmp_path, drawing):
    figures.confusion_matrix([2, 2, 2, 10], [2, 2, 10, 10], [2, 10, 30], tmp_path / "c.png")
    shown = texts(drawing[0])
    assert {"66.7%", "100.0%", "–"} <= set(shown)
    cells = [
        (text.get_position(), text.get_text())
        for text in drawing[0].axes[0].texts
        if text.get_ha() == "center"
    ]
    assert sorted(cells) == [((0, 0), "2"), ((1, 0), "1"), ((1, 1), "1")]


def peak_growth_mb(function: str, classes: int, path: Path) -> float:
    """Draw a figure of many classes in a new process; return by how much its peak memory grew."""
    code = f"""
import sys
import numpy as np, pandas as pd
from kernelkit.report import figures

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))

rng = np.random.default_rng(0)
names = [f"class {{n}}" for n in range({classes})]
counts = pd.DataFrame(rng.integers(1, 999, ({classes}, 2)), names, ["train", "validation"])
true = np.repeat(names, 3)
predicted = np.where(rng.random(len(true)) < 0.2, rng.permutation(true), true)
arguments = {{"class_balance": (counts,), "confusion_matrix": (true, predicted, names)}}
figures.photo_grid(np.zeros((1, 9, 9, 3), np.uint8), ["warm up"], sys.argv[1], 1)
before = peak()
getattr(figures, "{function}")(*arguments["{function}"], sys.argv[1])
print(peak() - before)
"""
    environment = {**os.environ, "PYTHONPATH": str(LIB)}
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("function", "classes"),
    [("class_balance", 5000), ("confusion_matrix", 1000)],
)
def test_thousands_of_classes_take_little_memory_and_a_picture_of_usual_size(
    tmp_path, function, classes
):
    path = tmp_path / "figure.png"
    assert peak_growth_mb(function, classes, path) < 200
    assert max(size_of(path)) < 6000


def test_class_balance_of_many_classes_shows_the_largest_and_smallest(tmp_path, drawing):
    counts = pd.DataFrame({"train": range(2000), "validation": 1}, index=range(2000))
    figures.class_balance(counts.sample(frac=1, random_state=0), tmp_path / "balance.png")
    shown = texts(drawing[0])
    title = "shown: the 60 largest and the 60 smallest classes\n2,001,000 photos of 2,000 classes"
    assert title in shown
    bars = [text for text in shown if text.endswith(" + 1")]
    assert bars == [f"{n:,} + 1" for n in [*range(1999, 1939, -1), *range(59, -1, -1)]]


def test_the_confusion_matrix_of_many_classes_shows_the_most_confused(tmp_path, drawing):
    classes = list(range(1000))
    true = 2 * classes + 5 * [7] + 3 * [500] + [2, 3]
    predicted = 2 * classes + 5 * [9] + 3 * [800] + [3, 2]
    figures.confusion_matrix(true, predicted, classes, tmp_path / "confusion.png")
    shown = texts(drawing[0])
    title = "99.50% of 2,010 photos right\nshown: the 40 most confused of 1,000 classes"
    assert title in shown
    drawn = [int(label.get_text()) for label in drawing[0].axes[0].get_yticklabels()]
    assert len(drawn) == 40
    assert {2, 3, 7, 9, 500, 800} < set(drawn)
    assert "28.6%" in shown  # 7's recall, 2 of 7, of all its photos


def test_many_classes_without_a_mistake_are_drawn(tmp_path, drawing):
    classes = list(range(300))
    figures.confusion_matrix([250, 251], [250, 251], classes, tmp_path / "confusion.png")
    assert any(text.startswith("100.00% of 2 photos right") for text in texts(drawing[0]))


def test_learning_curves_mark_and_name_the_stages(tmp_path, drawing):
    stages = [("head", 4), ("half", 1), ("three quarters", 3), ("all", 2)]
    figures.learning_curves(history(stages), tmp_path / "curves.png")
    size_of(tmp_path / "curves.png")
    accuracy = drawing[0].axes[0]
    assert [text.get_text() for text in accuracy.texts] == [stage for stage, _ in stages]
    boundaries = [line.get_xdata()[0] for line in accuracy.lines if line.get_linestyle() == "--"]
    assert boundaries == [4.5, 5.5, 8.5]
    assert "best validation accuracy 15.00% in epoch 10" in texts(drawing[0])


@pytest.mark.parametrize(
    "rows",
    [
        history([("head", 1)]),
        history([("head", 2)]).assign(val_accuracy=np.nan, val_loss=np.nan),
        history([("head", 3)]).assign(loss=[1, np.nan, np.inf]),
        history([("head", 0)]),
    ],
    ids=["one epoch", "no validation", "loss not finite", "no epoch"],
)
def test_learning_curves_of_odd_histories(tmp_path, rows):
    figures.learning_curves(rows, tmp_path / "curves.png")
    size_of(tmp_path / "curves.png")


@pytest.mark.parametrize(("count", "shape"), [(1, (40, 60)), (15, (48, 64)), (7, (90, 30))])
@pytest.mark.parametrize("columns", [1, 5])
def test_photo_grid(tmp_path, count, shape, columns, drawing):
    images = np.random.default_rng(0).integers(0, 256, (count, *shape, 3), dtype=np.uint8)
    titles = [f"class {n}" for n in range(count)]
    figures.photo_grid(images, titles, tmp_path / "grid.png", columns)
    size_of(tmp_path / "grid.png")
    axes = drawing[0].axes
    shown = [a for a in axes if a.images]
    assert [a.get_title() for a in shown] == titles
    assert all(
        np.array_equal(a.images[0].get_array(), i) for a, i in zip(shown, images, strict=True)
    )


def test_a_failed_figure_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "balance.png"
    counts = pd.DataFrame({"train": [3], "validation": [1]}, index=[0])
    figures.class_balance(counts, path)
    old = path.read_bytes()

    def fail(self, file, **settings):
        Path(file).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        figures.class_balance(counts, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_the_callers_backend_and_figures_stay_as_they_are(tmp_path):
    code = (
        "import sys; import matplotlib; matplotlib.use('svg');"
        "import pandas as pd; from kernelkit.report import figures;"
        "figures.class_balance(pd.DataFrame({'train': [1], 'validation': [1]}), sys.argv[1]);"
        "assert matplotlib.get_backend() == 'svg'; assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {"PYTHONPATH": str(LIB), "MPLCONFIGDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "b.png")]
    subprocess.run(command, env=environment, check=True)
    size_of(tmp_path / "b.png")
