"""Write report.html of a run, and the page of all runs."""

import contextlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from kernelkit.core.boundary import Boundary
from kernelkit.core.contract import read_metrics
from kernelkit.core.files import write_atomically
from kernelkit.core.problem import Problem
from kernelkit.core.progress import clock_text

# The modules that make a page are imported late: what is wrong with them must not end a run.

PAGE = "report.html"
FIGURES = ("learning_curves.png", "confusion_matrix.png", "augmented.png")
TEMPLATES = Path(__file__).parent / "templates"


def write_report(output: Path) -> None:
    """Write a run's report; whatever goes wrong is printed, and the run goes on."""
    try:
        make_report(output)
    except Exception as error:
        why = str(error) if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
        print(f"{output / PAGE} could not be written ({why}); the run goes on.", flush=True)


def note_score(output: Path, score: float, of: str, again: str = "ship push") -> None:
    """Show on the report of a run what its submission scored; say so where that fails.

    `of` says who scored it and on what; `again` is the command that repeats the run, which takes
    `--set FIELD=VALUE`. Nothing is done where there is no report.
    """
    if not (output / PAGE).is_file():
        return
    noted = {"public_score": score, "of": of, "again": again}
    with contextlib.redirect_stdout(sys.stderr):  # stdout is `ship`'s, which may print JSON
        try:
            write_atomically(output / "score.json", json.dumps(noted))
        except OSError as error:
            print(f"{output / PAGE} does not show the score ({error}).")
        else:
            write_report(output)


def finish(output: Path) -> None:
    """Write the report of a finished run; in a notebook, show its head and its figures there."""
    write_report(output)
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython
    from IPython.display import Image, Markdown, display

    if get_ipython():
        metrics = read_metrics(output)
        score, low, high = (metrics[name] for name in ("score", "score_low", "score_high"))
        head = (
            f"**{metrics['metric']} {score:.4f}** on {metrics['val_images']} validation photos "
            f"(95 % interval {low:.4f} to {high:.4f}), {metrics['test_images']} photos predicted. "
            f"[The report]({output / PAGE}) advises what to do next."
        )
        display(Markdown(head))
        for figure in FIGURES:
            if (output / figure).is_file():
                display(Image(filename=str(output / figure)))


def remake(output: Path) -> int:
    """Write the report of a run anew, for a person who asked for it; return the exit status."""
    boundary = Boundary(
        "kernel.py", output / "traceback.txt", "The run's results are as they were."
    )
    boundary.doing = "making the report"

    def work() -> None:
        if not output.is_dir():
            raise Problem(f"There is no folder {output}: give the folder of a run's results.")
        make_report(output)
        print(output / PAGE)

    return boundary.run(work)


def make_report(output: Path) -> None:
    """Write report.html and report/. Raises Problem without a run or if a file can't be read."""
    report = template("report.html.j2")
    from kernelkit.report.page import contents
    from kernelkit.report.saved import read_run
    from kernelkit.report.sheets import Thumbnails
    from kernelkit.report.tables import FOLDER, write_lists

    run = read_run(output)
    thumbnails = Thumbnails(output / FOLDER / "thumbnails.zip")
    write_lists(run)
    shown = contents(run, thumbnails)
    page = report.render(**shown, thumbnail=thumbnails.uri, size=thumbnails.size)
    write_atomically(output / PAGE, page)
    thumbnails.save()


def write_overview(rows: Sequence[dict], file: Path) -> None:
    """Write the page of all runs: public score against validation accuracy, and what changed.

    `rows` are one a run, the best first: run, time, changed (a text), status, score, low and high
    (its interval), gpu_minutes, public_score (0 to 1, or None), page (an address, or "") and report
    (a path relative to the page, or ""). Raises OSError if the page can't be written.
    """
    page = template("runs.html.j2")
    from kernelkit.report import figures

    points = [
        (
            row["score"],
            row["public_score"],
            f"{row['run']}: validation {row['score']:.2%}, public score {row['public_score']:.5f}",
        )
        for row in rows
        if row["score"] is not None and row["public_score"] is not None
    ]
    chart = None
    if len(points) > 1:
        chart = figures.svg(figures.scores(points), "; ".join(text for *_, text in points))
    write_atomically(file, page.render(rows=rows, chart=chart))


def breakable(text: object):
    """Return a name that may be broken after each underscore, as HTML."""
    from markupsafe import Markup, escape  # which Jinja2 brings

    return Markup(escape(str(text)).replace("_", Markup("_<wbr>")))


def coded(text: str):
    """Return a sentence as HTML, with the words in `backticks` as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def template(name: str):
    """Return a template of this package. Raises Problem if Jinja2 is not installed."""
    try:
        import jinja2
    except ImportError:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Problem(f"Python {python} has no Jinja2 here: pip install jinja2") from None
    from kernelkit.report.page import signed

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "pct": lambda value, digits=2: f"{100 * value:.{digits}f}%",
        "four": "{:.4f}".format,
        "breakable": breakable,
        "coded": coded,
        "points": signed,
        "whole": lambda value: f"{value:,}",
        "clock": clock_text,
    }
    return environment.get_template(name)
