"""The report is made from saved results alone, stays small, and can never fail a run."""

import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kernelkit.core.contract import CandidateMetrics
from kernelkit.core.metrics import METRICS, packed, paired_difference, wilson
from kernelkit.report import sheets, tables, writing
from kernelkit.report import writing as report
from kernelkit.report.attention import signature
from kernelkit.report.page import signed
from kernelkit.report.saved import read_run
from saved_run import COMMAND, SETTINGS, history_of, write_photos, write_run

KERNEL = Path(__file__).parents[2] / "kernel.py"
WRONG = {row: (row // 20 + 1) % 4 for row in range(0, 78, 2)}  # more mistakes than a sheet shows
VOID = {"meta", "link", "img", "br", "wbr"}


class Page(HTMLParser):
    """Collects what tests ask of a page; raises where its tags do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.headings, self.tags, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self.open):
            self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of two members with photos and mistakes, and its report. Read-only."""
    folder = tmp_path_factory.mktemp("made")
    photos = write_photos(folder / "photos", 4, 20, 30)
    photos.loc[[3, 25], "group"] = 900
    write_run(
        folder / "run", wrong=WRONG, members={"b3": WRONG, "next": {}}, photos=photos,
        suspects=[0, 2, 4], excluded_images=1,
    )  # fmt: skip
    (folder / "run" / "excluded.csv").write_text(
        "Id,set,label,path,reason\nx.jpg,train,class 1,gone/x.jpg,its file is empty\n"
    )
    (folder / "run" / "unlike.csv").write_text(
        "Id,label,distance,path\nv00007.jpg,class 0,0.8125,\n"
    )
    report.write_report(folder / "run")
    return folder / "run"


def test_the_page_is_one_file_without_network_or_scripts(made):
    page = page_of(made)
    assert page.all("script") == []
    links = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    originals = {link for link in links if link.startswith("file:")}
    assert originals <= {path.as_uri() for path in (made.parent / "photos").iterdir()}
    links = [link for link in links if link not in originals]
    assert all(re.match(r"data:|#|(report/)?\w+\.csv$", link) for link in links)
    beside = [link for link in links if link.endswith(".csv")]
    assert beside
    assert all((made / link).is_file() for link in beside)


def test_landmarks_headings_and_pictures_are_accessible(made):
    page = page_of(made)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in steps)
    assert [len(page.all(tag)) for tag in ("main", "nav", "header", "footer")] == [1, 1, 1, 1]
    assert all(image["alt"] for image in page.all("img"))
    drawn = [svg for svg in page.all("svg") if "aria-hidden" not in svg]
    assert drawn
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in drawn)
    targets = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= targets


def test_the_headline_has_its_interval_and_what_it_means_on_the_test_set(made):
    text = page_of(made).text
    assert "51.25%" in text  # 39 of 80 are wrong
    interval = wilson(41, 80)
    assert f"{interval.low:.2%} to {interval.high:.2%}" in text
    assert "15 wrong of 30 photos" in text


def test_the_gain_of_views_has_a_paired_interval(tmp_path):
    write_run(tmp_path, wrong=WRONG)
    file = next(tmp_path.glob("members/*/probabilities.npz"))
    with np.load(file) as stored:
        arrays = dict(stored)
    said = arrays["validation"]
    worse = np.roll(said[:10], 1, axis=1)  # ten photos that the plain pass has otherwise
    np.savez(file, **arrays | {"validation_plain": np.concatenate([worse, said[10:]])})
    report.write_report(tmp_path)
    truth = [list(arrays["classes"]).index(label) for label in arrays["validation_labels"]]
    right = said.argmax(1) == truth
    plain = np.concatenate([worse, said[10:]]).argmax(1) == truth
    gain = paired_difference(right, plain)
    low, high = (signed(100 * value) for value in (gain.low, gain.high))
    assert f"paired by photo: {low} to {high}." in page_of(tmp_path).text


def test_the_stages_have_paired_intervals(tmp_path):
    photos = write_photos(tmp_path / "photos", 4, 20, 30).assign(fold=0)
    head, half = np.arange(80) >= 12, np.arange(80) % 20 != 3
    right = [packed(head), *[packed(half)] * 3, *[packed(head & half)] * 3]
    accuracy = [0.85, 0.9, 0.95, 0.9, 0.8, 0.8125, 0.8]  # the best of each stage is what counts
    history = history_of(val_accuracy=accuracy).assign(right=right)
    write_run(tmp_path / "run", photos=photos, history=history)
    report.write_report(tmp_path / "run")
    text = page_of(tmp_path / "run").text
    for ours, theirs in ((half, head), (head & half, half)):
        gain = paired_difference(ours, theirs)
        words = [signed(100 * value) for value in (gain.value, gain.low, gain.high)]
        assert "{} ({} to {})".format(*words) in text


def test_stages_without_known_photos_have_no_gains():
    table = tables.stage_table(history_of(), {0: 80})
    assert table.gain.isna().all()
    assert table.best.tolist() == [0.85, 0.91, 0.95]


def test_the_members_have_paired_intervals(made):
    text = page_of(made).text
    right = np.asarray([row not in WRONG for row in range(80)])
    lead = paired_difference(right, np.ones(80, bool))
    low, high = (signed(100 * value) for value in (lead.low, lead.high))
    assert f"{signed(100 * lead.value)} ({low} to {high})" in text
    same = paired_difference(right, right)  # over the member that says the same
    low, high = (signed(100 * value) for value in (same.low, same.high))
    assert f"+0.00 ({low} to {high})" in text
    assert same.low < 0 < same.high


def test_sheets_say_how_many_are_shown_and_the_list_has_all(made):
    text = page_of(made).text
    assert "24 of 39 shown" in text
    listed = pd.read_csv(made / "report" / "mistakes.csv")
    assert len(listed) == 39
    assert listed.probability_of_predicted.tolist() == pytest.approx([0.9] * 39)
    assert "24 of 30 shown" in text
    assert "label class 0 3.3% predicted class 1 90.0%" in text  # both probabilities, labelled


def test_the_lists_are_what_exclude_reads(made):
    beside = ("suspects.csv", "unlike.csv", "excluded.csv")
    for name in (*beside, "report/duplicates.csv", "report/mistakes.csv"):
        assert "Id" in pd.read_csv(made / name)
    assert pd.read_csv(made / "report" / "duplicates.csv").Id.tolist() == [
        "v00003.jpg",
        "v00025.jpg",
    ]


def test_marks_in_the_lists_survive_a_report_that_is_made_anew(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "run")
    file = folder / "report" / "duplicates.csv"
    pd.read_csv(file).assign(leave_out=["yes", ""]).to_csv(file, index=False)
    report.write_report(folder)
    after = pd.read_csv(file, keep_default_na=False)
    assert list(after.columns[:3]) == ["Id", "label", "leave_out"]
    assert after.leave_out.tolist() == ["yes", ""]


def test_the_title_names_competition_folder_and_date(made):
    text = (made / "report.html").read_text(encoding="utf-8")
    title = re.search("<title>(.*)</title>", text)[1]
    assert title == "51.25% · some-cars · 1 March 2026, 09:30"
    assert "photos from /data/some-cars" in page_of(made).text


@pytest.mark.parametrize(
    ("score", "said"),
    [(0.5, "It is within"), (0.9, "It is better than"), (0.1, "It is worse than")],
)
def test_the_score_of_the_submission_stands_beside_the_validation(tmp_path, score, said):
    folder = write_run(tmp_path, wrong=WRONG)
    report.note_score(folder, score, "Kaggle's public score")
    assert not (folder / "score.json").exists()  # there is no report to show it on
    report.write_report(folder)
    assert "On the test set that means" in page_of(folder).text
    report.note_score(folder, score, "Kaggle's public score")
    text = page_of(folder).text
    assert f"Score of the submission {score:.2%} Kaggle's public score (accuracy). {said}" in text
    assert "On the test set that means" not in text


def test_a_score_that_can_not_be_noted_ends_nothing(tmp_path, capsys):
    folder = write_run(tmp_path, wrong=WRONG)
    report.write_report(folder)
    (folder / "metrics.json").write_text("{")
    report.note_score(folder, 0.5, "Kaggle's public score")
    (folder / "score.json").unlink()
    (folder / "score.json").mkdir()  # what is written goes beside, and then takes its place
    (folder / "score.json" / "x").write_text("")
    report.note_score(folder, 0.5, "Kaggle's public score")
    said = capsys.readouterr()
    assert said.out == ""  # of `ship --json`
    assert "metrics.json can't be read" in said.err
    assert "does not show the score" in said.err


def test_a_score_that_is_less_the_better_is_judged_so(tmp_path):
    loss = {"metric": "log-loss", "greater_is_better": False, "score": 0.7}
    folder = write_run(tmp_path, wrong=WRONG, score_low=0.6, score_high=0.8, **loss)
    report.write_report(folder)
    report.note_score(folder, 0.5, "Kaggle's public score")
    assert "Score of the submission 0.5000" in page_of(folder).text
    assert "It is better than" in page_of(folder).text


def test_views_are_judged_by_the_metric_of_the_competition(tmp_path):
    loss = {"metric": "log-loss", "greater_is_better": False, "score_plain": 0.74}
    folder = write_run(tmp_path, wrong=WRONG, score=0.7, score_tta=0.71, **loss)
    file = next(folder.glob("members/*/probabilities.npz"))
    with np.load(file) as stored:
        arrays = dict(stored)
    plain = np.full_like(arrays["validation"], 0.25)
    np.savez(file, **arrays | {"validation_plain": plain})
    report.write_report(folder)
    text = page_of(folder).text
    assert "Test-time augmentation +0.0300" in text  # a gain, though the loss is less
    assert "0.7400 without, 0.7100 with it" in text
    assert "calibrated, as submitted 0.7000" in text
    truth = [list(arrays["classes"]).index(label) for label in arrays["validation_labels"]]
    gain, error = METRICS["log-loss"].gain(plain, arrays["validation"], np.asarray(truth))
    low, high = (signed(gain + side * 1.96 * error, 4) for side in (-1, 1))
    assert f"paired by photo: {low} to {high}" in text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"tta_used": False}, "Test-time augmentation"),
        ({}, "Why"),
        ({}, "Planned share"),
        ({"history": history_of().head(1)}, "Curves"),
    ],
)
def test_cards_without_news_are_left_out(tmp_path, changes, word):
    report.write_report(write_run(tmp_path, **changes))
    assert word not in page_of(tmp_path).text


def test_the_double_scaling_is_explained_where_a_run_had_it(tmp_path):
    report.write_report(write_run(tmp_path, settings={"input_range": "0..1"}))
    assert "stay under 90%" in page_of(tmp_path).text


def test_photos_open_the_original_where_it_will_stay(tmp_path):
    photos = write_photos(tmp_path / "photos", 4, 20, 30)
    folder = write_run(tmp_path / "run", wrong=WRONG, photos=photos)
    report.write_report(folder)
    links = {a["href"] for a in page_of(folder).all("a") if a["href"].startswith("file:")}
    assert links
    assert all(Path(url2pathname(urlsplit(link).path)).is_file() for link in links)
    write_run(folder, wrong=WRONG, photos=photos, command="python /kaggle/src/script.py")
    report.write_report(folder)
    assert "file:" not in (folder / "report.html").read_text(encoding="utf-8")


def test_a_list_that_accuses_nobody_says_why(tmp_path):
    folder = write_run(tmp_path, per_class=9)
    report.write_report(folder)
    assert "--folds 5 holds out every photo once" in page_of(folder).text


def test_a_score_without_reviewed_photos_says_that_it_stands_alone(tmp_path):
    folder = write_run(tmp_path, wrong=WRONG, excluded_images=1)
    (folder / "excluded.csv").write_text(
        "Id,set,label,path,reason\nx.jpg,train,class 1,,a person marked it in suspects.csv\n"
    )
    report.write_report(folder)
    assert "not comparable with a run that has them" in page_of(folder).text


def test_an_untrained_network_is_called_so(tmp_path):
    cut = {"stopped_by_time_limit": True, "time_limit": 1.0}
    report.write_report(write_run(tmp_path, history=history_of().head(0), **cut))
    assert "untrained network" in page_of(tmp_path).text


def test_photos_unlike_all_others_are_shown_with_their_distance(made):
    assert "1 of 1 shown unlike.csv, all of them" in page_of(made).text
    assert "v00007.jpg label class 0 distance 0.81" in page_of(made).text


def test_label_issues_of_an_earlier_run_are_not_shown(tmp_path):
    write_run(tmp_path, wrong={1: 1}, suspects=[1])
    table = pd.read_csv(tmp_path / "suspects.csv")
    earlier = table.assign(Id="of-before.jpg")
    pd.concat([table, earlier]).to_csv(tmp_path / "suspects.csv", index=False)
    assert read_run(tmp_path).label_issues.Id.tolist() == ["v00001.jpg"]


def test_commands_in_a_sentence_are_code_and_nothing_else_is_markup():
    said = writing.coded("`ship weights X` of <b>`--limit 4`")
    assert said == "<code>ship weights X</code> of &lt;b&gt;<code>--limit 4</code>"


def test_names_from_outside_are_escaped(tmp_path):
    names = ["<b>bold</b>", "a&b", "c", "d"]
    write_run(tmp_path, names=names, wrong={1: 1})
    report.write_report(tmp_path)
    assert "<b>" not in (tmp_path / "report.html").read_text()
    assert "<b>bold</b>" in page_of(tmp_path).text


def test_the_home_competition_is_compared_with_the_published_scores(tmp_path):
    write_run(tmp_path / "home", classes=10, per_class=20, tests=6675, wrong={1: 1})
    report.write_report(tmp_path / "home")
    text = page_of(tmp_path / "home").text
    assert "+1.67 points from 0.97827, the best published score" in text
    assert "+2.66 points from 0.96838, the reference recipe" in text
    write_run(tmp_path / "other", classes=10, per_class=20, tests=6674)
    report.write_report(tmp_path / "other")
    assert "published" not in page_of(tmp_path / "other").text


def test_many_classes_show_the_most_confused_pairs(tmp_path):
    wrong = {row: (row // 2 + 1) % 40 for row in range(0, 60, 2)}
    write_run(tmp_path, classes=40, per_class=2, tests=5, wrong=wrong)
    report.write_report(tmp_path)
    text = page_of(tmp_path).text
    assert "20 of 30 pairs shown" in text
    assert "Confusion matrix" not in text
    assert len(pd.read_csv(tmp_path / "report" / "confused_pairs.csv")) == 30


def test_200_classes_and_7000_photos_stay_below_5_mb(tmp_path):
    # Noise of a thumbnail's own size compresses worse than any photo.
    photos = write_photos(tmp_path / "photos", 200, 25, 2000, 200, (120, 160), 255)
    wrong = {row: (row // 25 + 1 + row % 3) % 200 for row in range(0, 5000, 9)}
    write_run(
        tmp_path / "run", classes=200, per_class=25, tests=2000, wrong=wrong, photos=photos,
        suspects=list(range(0, 5000, 18)),
    )  # fmt: skip
    report.write_report(tmp_path / "run")
    page = page_of(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").stat().st_size < 5_000_000
    assert len([i for i in page.all("img") if i["src"].startswith("data:image/webp")]) > 120
    assert "24 of 556 shown" in page.text


def test_the_report_is_remade_without_photos_or_tensorflow(made, tmp_path):
    folder = tmp_path / "fetched"
    shutil.copytree(made, folder)
    photos = pd.read_csv(folder / "photos.csv")
    assert "data:image/webp" in (folder / "report.html").read_text()
    before = len(page_of(folder).all("img"))
    (folder / "report.html").unlink()
    for path in photos.path.unique():
        Path(path).rename(Path(path).with_suffix(".away"))
    try:
        watched = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
        run = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
        code = f"{watched}sys.argv = {[str(KERNEL), '--report', str(folder)]}; {run}"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        for path in photos.path.unique():
            Path(path).with_suffix(".away").rename(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(folder / "report.html")
    assert len(page_of(folder).all("img")) == before


def under_way(folder: Path, epochs: int) -> Path:
    """Write what a run that is under way has saved after some epochs."""
    photos = write_photos(folder.parent / "photos", 4, 20, 30)
    state = {
        "settings": SETTINGS,
        "fingerprint": "other",
        "history": history_of().head(epochs).to_dict("records"),
    }
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "state.json").write_text(json.dumps(state))
    photos.to_csv(folder / "photos.csv", index=False)
    return folder


def test_a_run_under_way_has_a_report_and_shows_nothing_of_an_earlier_one(tmp_path):
    folder = under_way(tmp_path / "run", 4)
    write_run(folder, wrong=WRONG)  # an earlier run's results, which lie there until the end
    report.write_report(folder)
    page = page_of(folder)
    assert "Under way" in page.text
    assert "4 epochs are finished, best validation accuracy 91.00%" in page.text
    assert "Worst mistakes" not in page.text
    assert "60 training photos of 4 classes" not in page.text
    assert len(page.all("img")) == 4  # one of each class


def candidate(name: str, score: float | None, **changes) -> dict:
    """Return a row of the scout's."""
    ends = (None, None) if score is None else (score - 0.02, score + 0.02)
    row = CandidateMetrics(name, "MobileNet", [96, 128], score, *ends, *[None] * 5, False, "why")
    return dataclasses.asdict(dataclasses.replace(row, **changes))


def test_the_scout_s_candidates_are_a_table_and_a_figure(tmp_path):
    rows = [
        candidate("best", 0.91, tuned=0.934, chosen=True, minutes=12.34, peak_bytes=3 * 2**30),
        candidate("other", 0.85, images_per_second=143.2, reason="weight 0.01: run `ship x`"),
        candidate("lost", None, reason="out of <memory>"),
    ]
    report.write_report(write_run(tmp_path / "run", scouting=rows))
    page = page_of(tmp_path / "run")
    for text in ("0.8900 to 0.9300", "0.9340", "12.3", "3.0", "143", "Chosen: why", "96 × 128"):
        assert text in page.text
    assert "out of <memory>" in page.text  # escaped in the file
    drawn = [a["aria-label"] for a in page.all("svg") if "aria-label" in a]
    assert "Out-of-fold scores of the candidates; chosen best" in drawn
    folder = under_way(tmp_path / "busy", 4)
    file = folder / "state" / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"scouting": {"rows": rows[2:]}}))
    report.write_report(folder)
    assert "Scouting" in page_of(folder).text


def test_a_run_without_a_finished_epoch_has_a_report(tmp_path):
    folder = write_run(tmp_path, history=history_of().head(0))
    report.write_report(folder)
    assert "100.00%" in page_of(folder).text


def test_whatever_goes_wrong_is_one_sentence_and_the_run_goes_on(tmp_path, capsys):
    folder = write_run(tmp_path / "run")
    (folder / "probabilities.npz").write_bytes(b"no archive")
    report.write_report(folder)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith(f"{folder / 'report.html'} could not be written (")
    assert "probabilities.npz can't be read" in said
    assert said.endswith("; the run goes on.\n")


def test_a_missing_jinja2_is_a_sentence(tmp_path, capsys, monkeypatch):
    folder = write_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    report.write_report(folder)
    assert "pip install jinja2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder, "There is no folder"),
        (lambda folder: folder.mkdir(), "holds no run"),
        (lambda folder: write_run(folder) / "metrics.json", "metrics.json can't be read"),
    ],
)
def test_remaking_what_is_no_run_says_so(tmp_path, capsys, make, said):
    spoiled = make(tmp_path / "run")
    if spoiled and spoiled.is_file():
        spoiled.write_text("{")
    assert report.remake(tmp_path / "run") == 1
    assert said in capsys.readouterr().err


def test_photos_that_are_gone_or_damaged_have_no_picture(tmp_path):
    photos = write_photos(tmp_path / "photos", 4, 20, 30)
    Path(photos.path[0]).write_bytes(b"no photo")
    write_run(tmp_path / "run", wrong={0: 1}, photos=photos)
    (tmp_path / "run" / "report").mkdir()
    (tmp_path / "run" / "report" / "thumbnails.zip").write_bytes(b"no zip")
    report.write_report(tmp_path / "run")
    assert "no picture" in page_of(tmp_path / "run").text


def test_where_a_network_looked_is_shown_for_this_run_alone(tmp_path):
    photos = write_photos(tmp_path / "photos", 4, 20, 30)
    write_run(tmp_path / "run", wrong={0: 1}, photos=photos)
    (fold,) = read_run(tmp_path / "run").members[0].folds.values()
    network = signature(fold.test)
    folder = tmp_path / "run" / "report" / "attention"
    folder.mkdir(parents=True)
    keys, maps = ["train/v00000.jpg", "test/t00000.jpg"], np.eye(5, dtype=np.uint8)[None] * 255
    np.savez(folder / "of-an-earlier-run.npz", keys=keys, maps=np.repeat(maps, 2, 0))
    report.write_report(tmp_path / "run")
    assert "Where the network looked in" not in (tmp_path / "run" / "report.html").read_text()
    np.savez(folder / f"{network}.npz", keys=keys, maps=np.repeat(maps, 2, 0))
    report.write_report(tmp_path / "run")
    looked = [i for i in page_of(tmp_path / "run").all("img") if "looked" in i["alt"]]
    assert [i["alt"][-10:] for i in looked] == ["v00000.jpg"]  # not of each of the test photos
    keys = ["train/v00000.jpg", *(f"test/t{row:05d}.jpg" for row in range(30))]
    np.savez(folder / f"{network}.npz", keys=keys, maps=np.repeat(maps, 31, 0))
    report.write_report(tmp_path / "run")
    looked = [i for i in page_of(tmp_path / "run").all("img") if "looked" in i["alt"]]
    assert len(looked) == 1 + 24
    (folder / f"{network}.npz").write_bytes(b"damaged")
    report.write_report(tmp_path / "run")
    assert "Where the network looked in" not in (tmp_path / "run" / "report.html").read_text()


def test_the_picture_is_coloured_where_the_network_looked(tmp_path):
    path = write_photos(tmp_path, 1, 1, 0, 1).path[0]
    made = sheets.Thumbnails(tmp_path / "none.zip")
    made.add([path])
    heat = np.zeros((4, 4), np.uint8)
    heat[:, 2:] = 255
    made.add_looked(path, heat)
    with Image.open(io.BytesIO(made.pictures[path + sheets.LOOKED])) as image:
        seen = np.asarray(image.convert("RGB"), float)
    assert seen.shape == (60, 80, 3)
    spread = seen.max(2) - seen.min(2)
    assert spread[:, 50:].mean() > 60
    assert spread[:, :25].mean() < 12
    with Image.open(path) as image:  # what is in the photo still shows
        bright = np.asarray(image.convert("L"), float)
    assert np.corrcoef(bright[:, 50:].ravel(), seen[:, 50:].mean(2).ravel())[0, 1] > 0.8


def test_the_table_of_classes_counts_precision_and_recall(tmp_path):
    run = read_run(write_run(tmp_path, classes=3, per_class=4, wrong={0: 1, 1: 1, 4: 2}))
    table = tables.class_table(run).set_index("class")
    assert table.recall.tolist() == [0.5, 0.75, 1.0]
    assert table.precision.tolist() == pytest.approx([1.0, 3 / 5, 4 / 5])
    assert table.f1["class 1"] == pytest.approx(2 * 3 / (4 + 5))
    assert table.support.tolist() == [4, 4, 4]
    pairs = tables.confused_pairs(run)
    assert pairs.iloc[0].tolist() == ["class 0", "class 1", 2, 0, 2]


def test_the_command_of_the_run_is_shown(made):
    assert COMMAND in page_of(made).text
