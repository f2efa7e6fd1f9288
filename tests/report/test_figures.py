"""Each figure is readable as PNG and as SVG, whatever the classes, and is written whole."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kernelkit.core.metrics import wilson
from kernelkit.report import figures

LIB = Path(__file__).parents[2] / "lib"
NAMES = {
    "numbers": list(range(10)),
    "text": ["a very long name of a car model, with $x_1$ and % in it", "Ünïcode", "<c>"],
    "one": [7],
    "hundred": list(range(100)),
}
SVG = "{http://www.w3.org/2000/svg}"


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def check(figure, path):
    """Check that a figure is a PNG with something on it, and an SVG that may be dark too."""
    figures.write_png(figure, path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn
        assert max(image.size) < 6000
    text = str(figures.svg(figure, "what <it> shows"))
    assert 'role="img" aria-label="what &lt;it&gt; shows"' in text
    assert not [colour for colour in figures.VARIABLES if colour in text]
    assert "var(--soft)" in text
    assert "DejaVu" not in text
    return ElementTree.fromstring(
        text.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" xmlns:xlink="x" ')
    )


def tips(svg):
    return [title.text for title in svg.iter(f"{SVG}title")]


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
def test_class_balance(tmp_path, names):
    counts = pd.DataFrame({"train": 1371, "validation": 42}, index=NAMES[names])
    figure = figures.class_balance(counts)
    check(figure, tmp_path / "balance.png")
    shown = texts(figure)
    assert shown.count("1,371 + 42") == min(len(counts), figures.MOST_BARS)
    if len(counts) <= figures.MOST_BARS:
        assert {str(name)[:8] for name in NAMES[names]} <= {text[:8] for text in shown}


@pytest.mark.parametrize("names", NAMES)
def test_confusion_matrix(tmp_path, names):
    classes = NAMES[names]
    true = [classes[i % len(classes)] for i in range(300)]
    predicted = [classes[0], *true[1:-1], classes[0]]
    figure = figures.confusion_matrix(true, predicted, classes)
    svg = check(figure, tmp_path / "confusion.png")
    wrong = sum(t != p for t, p in zip(true, predicted, strict=True))
    assert f"{1 - wrong / 300:.2%} of 300 photos right" in " ".join(texts(figure))
    if wrong:
        assert f"{classes[299 % len(classes)]}, taken for {classes[0]}: 1" in tips(svg)


@pytest.mark.parametrize("lowest", [1e-6, 5e-4])
def test_learning_rates_are_numbers_at_their_axis(tmp_path, lowest):
    rates = history([("head", 5)]).assign(learning_rate=np.geomspace(1e-3, lowest, 5))
    figure = figures.learning_curves(rates)
    figures.write_png(figure, tmp_path / "curves.png")
    axis = figure.axes[-1].yaxis
    labels = [label.get_text() for label in axis.get_ticklabels() + axis.get_ticklabels(minor=True)]
    shown = [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels if label]
    assert shown
    assert all(value > 0 for value in shown)


def test_the_confusion_matrix_counts_by_label_and_shows_recall():
    figure = figures.confusion_matrix([2, 2, 2, 10], [2, 2, 10, 10], [2, 10, 30])
    assert {"67%", "100%", "–"} <= set(texts(figure))
    cells = [
        (text.get_position(), text.get_text())
        for text in figure.axes[0].texts
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
figures.write_png(figures.photo_grid(np.zeros((1, 9, 9, 3), np.uint8), ["warm"], 1), sys.argv[1])
before = peak()
figures.write_png(getattr(figures, "{function}")(*arguments["{function}"]), sys.argv[1])
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
def test_thousands_of_classes_take_little_memory(tmp_path, function, classes):
    assert peak_growth_mb(function, classes, tmp_path / "figure.png") < 200


def test_class_balance_of_many_classes_shows_the_largest_and_smallest():
    counts = pd.DataFrame({"train": range(2000), "validation": 1}, index=range(2000))
    shown = texts(figures.class_balance(counts.sample(frac=1, random_state=0)))
    title = "shown: the 30 largest and the 30 smallest classes\n2,001,000 photos of 2,000 classes"
    assert title in shown
    bars = [text for text in shown if text.endswith(" + 1")]
    assert bars == [f"{n:,} + 1" for n in [*range(1999, 1969, -1), *range(29, -1, -1)]]


def test_the_confusion_matrix_of_many_classes_shows_the_most_confused():
    classes = list(range(1000))
    true = 2 * classes + 5 * [7] + 3 * [500] + [2, 3]
    predicted = 2 * classes + 5 * [9] + 3 * [800] + [3, 2]
    figure = figures.confusion_matrix(true, predicted, classes)
    shown = texts(figure)
    title = "99.50% of 2,010 photos right\nshown: the 40 most confused of 1,000 classes"
    assert any(text.startswith(title) for text in shown)
    drawn = [int(label.get_text()) for label in figure.axes[0].get_yticklabels()]
    assert len(drawn) == 40
    assert {2, 3, 7, 9, 500, 800} < set(drawn)
    assert "29%" in shown  # 7's recall, 2 of 7, of all its photos


def test_many_classes_without_a_mistake_are_drawn():
    figure = figures.confusion_matrix([250, 251], [250, 251], list(range(300)))
    assert any(text.startswith("100.00% of 2 photos right") for text in texts(figure))


def test_learning_curves_mark_and_name_the_stages(tmp_path):
    stages = [("head", 4), ("half", 1), ("three quarters", 3), ("all", 2)]
    figure = figures.learning_curves(history(stages))
    svg = check(figure, tmp_path / "curves.png")
    accuracy, _, rate = figure.axes
    assert [text.get_text() for text in accuracy.texts] == ["1", "2", "3", "4"]
    assert [text.xy[0] for text in accuracy.texts] == [2.5, 5, 7, 9.5]
    assert "1 head, 2 half, 3 three quarters, 4 all" in rate.get_xlabel()
    shown = tips(svg)
    assert "best: 15.00% in epoch 10" in shown
    assert "epoch 10, validation: 15%" in shown
    assert "epoch 1, training: 1" in shown  # the loss


@pytest.mark.parametrize(
    "rows",
    [
        history([("head", 1)]),
        history([("head", 2)]).assign(val_accuracy=np.nan, val_loss=np.nan),
        history([("head", 3)]).assign(loss=[1, np.nan, np.inf]),
        history([("head", 0)]),
        history([("a stage with a name that is rather long", 2), ("b" * 60, 2)]),
    ],
    ids=["one epoch", "no validation", "loss not finite", "no epoch", "long names"],
)
def test_learning_curves_of_odd_histories(tmp_path, rows):
    check(figures.learning_curves(rows), tmp_path / "curves.png")


@pytest.mark.parametrize(("count", "shape"), [(1, (40, 60)), (15, (48, 64)), (7, (90, 30))])
@pytest.mark.parametrize("columns", [1, 5])
def test_photo_grid(tmp_path, count, shape, columns):
    images = np.random.default_rng(0).integers(0, 256, (count, *shape, 3), dtype=np.uint8)
    titles = [f"class {n}" for n in range(count)]
    figure = figures.photo_grid(images, titles, columns)
    figures.write_png(figure, tmp_path / "grid.png")
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == titles
    assert all(
        np.array_equal(axes.images[0].get_array(), image)
        for axes, image in zip(shown, images, strict=True)
    )


def test_the_figures_of_the_page_alone(tmp_path):
    check(figures.interval_strip(wilson(19, 20), [0.97]), tmp_path / "strip.png")
    check(figures.interval_strip(wilson(20, 20), []), tmp_path / "strip.png")
    bins = pd.DataFrame(
        {"bin": [3, 10], "confidence": [0.25, 0.98], "accuracy": [0.5, 1], "photos": [2, 9]}
    )
    svg = check(figures.calibration(bins, 10), tmp_path / "calibration.png")
    assert "2 photos: confidence 25.0%, right 50.0%" in tips(svg)
    sizes = pd.DataFrame({"width": [100, 100, 900], "height": [80, 80, 700]})
    svg = check(figures.photo_sizes(sizes, (384, 512)), tmp_path / "sizes.png")
    svg = check(figures.scores([(0.9, 0.91, "v1"), (0.95, 0.94, "v2")]), tmp_path / "scores.png")
    assert tips(svg) == ["v1", "v2"]


def test_a_failed_figure_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "balance.png"
    figure = figures.class_balance(pd.DataFrame({"train": [3], "validation": [1]}, index=[0]))
    figures.write_png(figure, path)
    old = path.read_bytes()

    def fail(self, file, **settings):
        Path(file).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        figures.write_png(figure, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_the_callers_backend_and_figures_stay_as_they_are(tmp_path):
    code = (
        "import sys; import matplotlib; matplotlib.use('svg'); before = dict(matplotlib.rcParams);"
        "import pandas as pd; from kernelkit.report import figures;"
        "counts = pd.DataFrame({'train': [1], 'validation': [1]});"
        "figures.write_png(figures.class_balance(counts), sys.argv[1]);"
        "assert dict(matplotlib.rcParams) == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {"PYTHONPATH": str(LIB), "MPLCONFIGDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "b.png")]
    subprocess.run(command, env=environment, check=True)
