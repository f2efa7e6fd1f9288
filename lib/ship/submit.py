"""`ship submit`: a submission checked here, sent once, and its score.

The message of every submission ends in `[ship HASH.MARK]`: the hash of its file tells whether that
was sent before, the mark whether this very submission arrived when its answer was lost.
"""

import argparse
import contextlib
import csv
import secrets
import zipfile
from collections import Counter
from pathlib import Path

from common import Problem
from ship.desk import Desk, say
from ship.fetch import read_metrics
from ship.follow import chosen_run
from ship.project import sha256
from ship.push import name_of

REFERENCE = 0.96838
"""The public score of the reference recipe."""

SAMPLE = "sample-submission.csv"
TRAIN = "train.csv"


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return a CSV file's header and rows; raise Problem when it can't be read."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise Problem(f"{path} can't be read as CSV: {error}.") from None
    if len(rows) < 2:
        raise Problem(f"{path} has no rows: nothing was submitted.")
    return rows[0], rows[1:]


def check(path: Path, sample: Path, classes: set[str]) -> None:
    """Raise Problem when a submission is not one that the competition can score.

    Compared with the sample: columns, number of rows, Ids and their order; then no blank labels,
    only known classes, not one label everywhere.
    """
    header, rows = read_table(path)
    expected_header, expected = read_table(sample)
    if header != expected_header:
        raise Problem(
            f"{path} has the columns {header}, not {expected_header}: nothing was submitted."
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise Problem(
                f"{path} line {number} has {len(row)} values, not {len(header)}: nothing was "
                "submitted."
            )
        if not all(value.strip() for value in row):
            raise Problem(f"{path} line {number} has a blank value: nothing was submitted.")
    check_ids(path, [row[0] for row in rows], [row[0] for row in expected])
    labels = Counter(value for row in rows for value in row[1:])
    if unknown := sorted(labels.keys() - classes):
        raise Problem(
            f"{path} has the label {unknown[0]!r}, which is none of the classes "
            f"{', '.join(sorted(classes))}: nothing was submitted."
        )
    if len(labels) == 1:
        raise Problem(f"{path} has the label {rows[0][1]!r} in every row: nothing was submitted.")


def check_ids(path: Path, found: list[str], expected: list[str]) -> None:
    """Raise Problem when the Ids are not those of the sample, in its order."""
    if found == expected:
        return
    kinds = {
        "an Id twice": [name for name, count in Counter(found).items() if count > 1],
        "an Id that is not in the sample": sorted(set(found) - set(expected)),
        "no row for an Id of the sample": sorted(set(expected) - set(found)),
        "the Ids in another order than the sample, first at": [
            a for a, b in zip(found, expected, strict=False) if a != b
        ],
    }
    what, names = next((what, names) for what, names in kinds.items() if names)
    raise Problem(
        f"{path} has {what} ({names[0]}; {len(found)} rows, the sample {len(expected)}): "
        "nothing was submitted."
    )


def data_file(desk: Desk, folder: Path, name: str) -> Path:
    """Return a small file of the competition: from the run, or else downloaded once."""
    if (folder / name).is_file():
        return folder / name
    competition = desk.project.competition
    kept = desk.project.runs / competition / name
    if not kept.exists():
        say(f"downloading {name} of {competition}")
        new = kept.with_name(name + ".new")
        desk.remote.call("download_data", name, competition=competition, name=name, path=str(new))
        if zipfile.is_zipfile(new):  # as Kaggle may send it
            with zipfile.ZipFile(new) as archive:
                new.write_bytes(archive.read(name))
        read_table(new)
        new.replace(kept)
    return kept


def known_classes(desk: Desk, folder: Path) -> set[str]:
    """Return the competition's labels as text: from the run's metrics, or else from train.csv."""
    classes = read_metrics(folder).get("classes")
    if isinstance(classes, list) and classes:
        return {str(label) for label in classes}
    return {row[1] for row in read_table(data_file(desk, folder, TRAIN))[1]}


def submit(desk: Desk, run: dict, path: Path, code: bool = False, explicit: bool = False) -> None:
    """Check a submission, send it unless that was done before, and wait for its score.

    `code` submits the kernel's version instead of the file, for a code competition; `explicit`
    means that a person asked for this very submission: to send the same file again is then an
    error, and one whose scoring failed is sent once more.
    """
    if not path.is_file():
        raise Problem(f"{path} is not there: fetch the run's output, or see in its log why.")
    check(path, data_file(desk, path.parent, SAMPLE), known_classes(desk, path.parent))
    digest = sha256(path)[:16]
    sent = run.get("submission", {})
    if sent.get("digest") != digest:
        sent = {}
    if sent.get("sending") and not desk.shows_up(lambda: arrived(desk, sent)):
        sent = {}
    if sent.get("score") is not None and not explicit:
        return report(desk, run, sent["score"])
    if not sent.get("ref") or (explicit and score_of(desk, sent)[0] in ("ERROR", "COMPLETE")):
        refuse_second(desk, digest)
        send(desk, run, path, digest, code)
    return wait_for_score(desk, run)


def refuse_second(desk: Desk, digest: str) -> None:
    """Raise Problem when Kaggle has a submission of the same file, scored or still to be scored."""
    for entry in desk.remote.submissions(desk.project.competition):
        if (
            f"[ship {digest}." in (entry.get("description") or "")
            and entry.get("status") != "ERROR"
        ):
            score = entry.get("publicScore") or "not scored yet"
            raise Problem(
                f"this very file was submitted before, as {entry.get('ref')} ({score}): it is not "
                "sent again."
            )


def message_of(run: dict, path: Path) -> str:
    """Return what a submission says of itself at Kaggle."""
    config = run.get("config") or {}
    words = [name_of(run) if run.get("version") else path.name]
    words += [config[name] for name in ("recipe", "backbone") if config.get(name)]
    metrics = read_metrics(path.parent)
    accuracy = metrics.get("val_accuracy_tta" if metrics.get("tta_used") else "val_accuracy")
    if isinstance(accuracy, float):
        words.append(f"validation {accuracy:.4f}")
    return " ".join(words)


def send(desk: Desk, run: dict, path: Path, digest: str, code: bool) -> None:
    """Send a submission once; raise Problem when Kaggle did not take it."""
    competition = desk.project.competition
    mark = f"[ship {digest}.{secrets.token_hex(4)}]"
    message = f"{message_of(run, path)} {mark}"
    sent = run["submission"] = {"file": path.name, "digest": digest, "mark": mark, "sending": True}
    desk.state.save()
    say(f"submitting {path} to {competition}")
    answer = desk.send_once(
        "the submission",
        send=lambda: hand_in(desk, run, path, message, code),
        arrived=lambda: arrived(desk, sent),
        forget=lambda: forget(desk, run),
    )
    if answer:
        accept(desk, run, answer)


def accept(desk: Desk, run: dict, answer: dict) -> None:
    """Take Kaggle's answer to a submission; raise Problem when it was refused or is not listed."""
    sent = run["submission"]
    if answer["ref"]:
        sent["ref"] = answer["ref"]
        desk.state.save()
    if desk.shows_up(lambda: arrived(desk, sent)):
        return
    if not answer["ref"]:
        forget(desk, run)
        raise Problem(
            f"Kaggle did not take the submission: {answer['message'] or 'it gave no reason'}"
        )
    sent.pop("sending")
    desk.state.save()
    raise Problem(
        f"Kaggle says that it took submission {answer['ref']}, but does not list it: see "
        f"https://www.kaggle.com/competitions/{desk.project.competition}/submissions; the same "
        "command again asks for its score."
    )


def hand_in(desk: Desk, run: dict, path: Path, message: str, code: bool) -> dict:
    """Make the one call that submits: a file, or a kernel's version."""
    fields = {"file": str(path), "message": message, "competition": desk.project.competition}
    if not code:
        return desk.remote.call("submit", "the submission", once=True, **fields)
    fields |= {"file": path.name, "kernel": run["ref"], "version": run["version"]}
    return desk.remote.call("submit_code", "the submission", once=True, **fields)


def forget(desk: Desk, run: dict) -> None:
    """Note that nothing was submitted."""
    run.pop("submission", None)
    desk.state.save()


def arrived(desk: Desk, sent: dict) -> bool:
    """Tell whether Kaggle has the submission with this mark; note its number then."""
    for entry in desk.remote.submissions(desk.project.competition):
        if sent["mark"] in (entry.get("description") or ""):
            sent.pop("sending", None)
            sent["ref"] = entry.get("ref")
            desk.state.save()
            return True
    return False


def score_of(desk: Desk, sent: dict) -> tuple[str, float | None, str]:
    """Return a submission's status word, its public score or None, and what went wrong."""
    for entry in desk.remote.submissions(desk.project.competition):
        if entry.get("ref") == sent["ref"]:
            score = None
            with contextlib.suppress(TypeError, ValueError):  # empty while it is pending
                score = float(entry.get("publicScore"))
            status = str(entry.get("status") or "PENDING").upper()
            return status, score, entry.get("errorDescription") or ""
    return "PENDING", None, ""


def wait_for_score(desk: Desk, run: dict) -> None:
    """Wait until a submission has its score; raise Problem when the scoring failed."""
    sent = run["submission"]
    say(f"submission {sent['ref']} was taken; waiting for its score")
    waited = 0.0
    for pause in desk.pace.polls():
        status, score, error = score_of(desk, sent)
        if status == "COMPLETE" and score is not None:
            return report(desk, run, score)
        if status == "ERROR":
            raise Problem(
                f"Kaggle could not score submission {sent['ref']}: {error or 'it gave no reason'}. "
                "`ship submit` sends the same file once more."
            )
        if status not in ("PENDING", "COMPLETE"):
            raise Problem(
                f"Kaggle gives the unknown status {status!r} for submission {sent['ref']}: run the "
                "same command again to ask for its score."
            )
        if waited > desk.pace.score:
            raise Problem(
                f"submission {sent['ref']} has no score after {waited / 60:.0f} minutes: run the "
                "same command again to ask for it; nothing is sent twice."
            )
        desk.remote.wait(pause)
        waited += pause
    return None


def report(desk: Desk, run: dict, score: float) -> None:
    """Print a score beside the reference's and the best so far, and note it."""
    name = name_of(run) if run.get("version") else run["submission"]["file"]
    best = desk.ledger.best(besides=name)
    if run.get("version"):
        desk.ledger.append(name, public_score=score)
    run["submission"]["score"] = score
    desk.state.save()
    beside = f"{score - REFERENCE:+.5f} to the reference's {REFERENCE}"
    beside += f", {score - best:+.5f} to the best so far {best:.5f}" if best is not None else ""
    say(f"public score of {name}: {score:.5f} ({beside})")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship submit`."""
    parser.add_argument(
        "--version", type=int, metavar="N", help="the run's version (the last push)"
    )
    parser.add_argument("--file", type=Path, help="another file than the run's submission.csv")
    parser.add_argument(
        "--code", action="store_true", help="submit the kernel's version (a code competition)"
    )


def run(desk: Desk, arguments: argparse.Namespace) -> None:
    """Run `ship submit`."""
    if arguments.file:
        chosen = desk.state.values.setdefault("files", {}).setdefault(str(arguments.file), {})
    else:
        chosen = chosen_run(desk, arguments.version)
    path = arguments.file or desk.project.runs / name_of(chosen) / "submission.csv"
    if desk.dry_run:
        return say(f"would submit {path} to {desk.project.competition}: {message_of(chosen, path)}")
    return submit(desk, chosen, path, arguments.code, explicit=True)
