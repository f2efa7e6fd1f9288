"""`ship submit`: check a submission, send it once, and wait for its score.

The message of every submission ends in `[ship HASH.MARK]`. The hash of the file tells whether the
same file was sent before; the random mark tells whether this very submission arrived when Kaggle's
answer was lost.
"""

import argparse
import contextlib
import secrets
import zipfile
from collections import Counter
from pathlib import Path

from common import Problem
from ship.contents import sha256
from ship.context import Context, say
from ship.fetch import read_metrics
from ship.follow import chosen_run
from ship.push import name_of

REFERENCE = 0.96838
"""The public score of the reference recipe."""

SAMPLE = "sample-submission.csv"
TRAIN = "train.csv"


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the rows of a CSV file, every value as text.

    Raises:
        Problem: the file can't be read or has no rows.
    """
    from common.tables import read_csv  # imports pandas, which takes half a second

    table = read_csv(path, advice="nothing was submitted")
    return list(table.columns), table.to_numpy().tolist()


def check(path: Path, sample: Path, classes: set[str]) -> None:
    """Check that the competition can score a submission.

    Args:
        path: the submission.
        sample: the competition's sample submission.
        classes: the known labels.

    Raises:
        Problem: columns, number of rows, Ids or their order differ from the sample's; a value is
            blank; a label is unknown; or every row has the same label.
    """
    header, rows = read_table(path)
    expected_header, expected = read_table(sample)
    if header != expected_header:
        raise Problem(
            f"{path} has the columns {header}, not {expected_header}: nothing was submitted."
        )
    for number, row in enumerate(rows, start=2):
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
    """Raise Problem when the Ids are not those of the sample in the sample's order."""
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


def data_file(context: Context, folder: Path, name: str) -> Path:
    """Return a small file of the competition: the one in the run's folder, or else a download.

    The download is kept in runs/<competition>/.
    """
    if (folder / name).is_file():
        return folder / name
    competition = context.project.competition
    kept = context.project.runs / competition / name
    if not kept.exists():
        say(f"downloading {name} of {competition}")
        new = kept.with_name(name + ".new")
        context.remote.call(
            "download_data", name, competition=competition, name=name, path=str(new)
        )
        if zipfile.is_zipfile(new):  # Kaggle packs some files
            with zipfile.ZipFile(new) as archive:
                new.write_bytes(archive.read(name))
        read_table(new)
        new.replace(kept)
    return kept


def known_classes(context: Context, folder: Path) -> set[str]:
    """Return the competition's labels as text: those in the run's metrics, or in train.csv."""
    classes = read_metrics(folder).get("classes")
    if isinstance(classes, list) and classes:
        return {str(label) for label in classes}
    return {row[1] for row in read_table(data_file(context, folder, TRAIN))[1]}


def submit(
    context: Context, run: dict, path: Path, code: bool = False, explicit: bool = False
) -> None:
    """Check a submission, send it unless that was done before, and wait for its score.

    Args:
        context: the project, Kaggle and the state.
        run: the run in the state, or what the state holds of a file of one's own.
        path: the submission.
        code: submit the kernel's version instead of the file, for a code competition.
        explicit: a person asked for this very submission. Sending the same file again is then a
            Problem, and a file whose scoring failed is sent once more.

    Raises:
        Problem: the submission is missing, can't be scored, was sent before or is refused.
    """
    context.doing(f"submitting {path}")
    if not path.is_file():
        raise Problem(f"{path} is not there: fetch the run's output, or see in its log why.")
    check(path, data_file(context, path.parent, SAMPLE), known_classes(context, path.parent))
    digest = sha256(path)[:16]
    sent = run.get("submission", {})
    if sent.get("digest") != digest:
        sent = {}
    if sent.get("sending") and not context.shows_up(lambda: arrived(context, sent)):
        sent = {}
    if sent.get("score") is not None and not explicit:
        return report(context, run, sent["score"])
    if not sent.get("ref") or (explicit and scoring_of(context, sent)[0] in ("ERROR", "COMPLETE")):
        refuse_second(context, digest)
        send(context, run, path, digest, code)
    return wait_for_score(context, run)


def refuse_second(context: Context, digest: str) -> None:
    """Raise Problem when Kaggle has a submission of the same file whose scoring has not failed."""
    for entry in context.remote.submissions(context.project.competition):
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
    """Return the message of a submission: run, recipe, backbone and validation accuracy."""
    config = run.get("config") or {}
    words = [name_of(run) if run.get("version") else path.name]
    words += [str(config[name]) for name in ("recipe", "backbone") if config.get(name)]
    metrics = read_metrics(path.parent)
    accuracy = metrics.get("val_accuracy_tta" if metrics.get("tta_used") else "val_accuracy")
    if isinstance(accuracy, float):
        words.append(f"validation {accuracy:.4f}")
    return " ".join(words)


def send(context: Context, run: dict, path: Path, digest: str, code: bool) -> None:
    """Send a submission once; raise Problem when Kaggle did not take it."""
    competition = context.project.competition
    mark = f"[ship {digest}.{secrets.token_hex(4)}]"
    message = f"{message_of(run, path)} {mark}"
    sent = run["submission"] = {"file": path.name, "digest": digest, "mark": mark, "sending": True}
    context.state.save()
    say(f"submitting {path} to {competition}")
    answer = context.send_once(
        "the submission",
        send=lambda: hand_in(context, run, path, message, code),
        arrived=lambda: arrived(context, sent),
        forget=lambda: forget(context, run),
    )
    if answer:
        accept(context, run, answer)


def accept(context: Context, run: dict, answer: dict) -> None:
    """Note what Kaggle answered to a submission.

    Raises:
        Problem: Kaggle refused the submission or does not list it.
    """
    sent = run["submission"]
    if answer["ref"]:
        sent["ref"] = answer["ref"]
        context.state.save()
    if context.shows_up(lambda: arrived(context, sent)):
        return
    if not answer["ref"]:
        forget(context, run)
        raise Problem(
            f"Kaggle did not take the submission: {answer['message'] or 'it gave no reason'}"
        )
    sent.pop("sending")
    context.state.save()
    raise Problem(
        f"Kaggle says that it took submission {answer['ref']}, but does not list it: see "
        f"https://www.kaggle.com/competitions/{context.project.competition}/submissions; the same "
        "command again asks for its score."
    )


def hand_in(context: Context, run: dict, path: Path, message: str, code: bool) -> dict:
    """Make the one call that submits a file, or with `code` a kernel's version."""
    fields = {"file": str(path), "message": message, "competition": context.project.competition}
    if not code:
        return context.remote.call("submit", "the submission", once=True, **fields)
    fields |= {"file": path.name, "kernel": run["ref"], "version": run["version"]}
    return context.remote.call("submit_code", "the submission", once=True, **fields)


def forget(context: Context, run: dict) -> None:
    """Note in the state that nothing was submitted."""
    run.pop("submission", None)
    context.state.save()


def arrived(context: Context, sent: dict) -> bool:
    """Tell whether Kaggle lists the submission with this mark; if so, note its number."""
    for entry in context.remote.submissions(context.project.competition):
        if sent["mark"] in (entry.get("description") or ""):
            sent.pop("sending", None)
            sent["ref"] = entry.get("ref")
            context.state.save()
            return True
    return False


def scoring_of(context: Context, sent: dict) -> tuple[str, float | None, str]:
    """Return a submission's status word, its public score or None, and what went wrong."""
    for entry in context.remote.submissions(context.project.competition):
        if entry.get("ref") == sent["ref"]:
            score = None
            with contextlib.suppress(TypeError, ValueError):  # it is empty while pending
                score = float(entry.get("publicScore"))
            status = str(entry.get("status") or "PENDING").upper()
            return status, score, entry.get("errorDescription") or ""
    return "PENDING", None, ""


def wait_for_score(context: Context, run: dict) -> None:
    """Wait until a submission has its score, and report it.

    Raises:
        Problem: the scoring failed, took too long, or has an unknown status.
    """
    sent = run["submission"]
    context.doing(f"waiting for the score of submission {sent['ref']}")
    say(f"submission {sent['ref']} was taken; waiting for its score")
    waited = 0.0
    for pause in context.pace.polls():
        status, score, error = scoring_of(context, sent)
        if status == "COMPLETE" and score is not None:
            return report(context, run, score)
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
        if waited > context.pace.score:
            raise Problem(
                f"submission {sent['ref']} has no score after {waited / 60:.0f} minutes: run the "
                "same command again to ask for it; nothing is sent twice."
            )
        context.remote.wait(pause)
        waited += pause
    return None


def report(context: Context, run: dict, score: float) -> None:
    """Print a score with its distance to the reference's and to the best so far; then note it.

    A dry run's score is of other photos than the reference's, or of a network too small to compare.
    """
    name = name_of(run) if run.get("version") else run["submission"]["file"]
    best = context.ledger.best(excluding=name)
    distances = []
    if (run.get("config") or {}).get("recipe") != "dry":
        distances.append(f"{score - REFERENCE:+.5f} to the reference's {REFERENCE}")
    if best is not None:
        distances.append(f"{score - best:+.5f} to the best so far {best:.5f}")
    say(
        f"public score of {name}: {score:.5f} {' '.join(f'({text})' for text in distances)}".strip()
    )
    if run.get("version"):
        context.ledger.append(name, public_score=score)
    run["submission"]["score"] = score
    context.state.save()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ship submit`."""
    parser.add_argument(
        "--version", type=int, metavar="N", help="the run's version (the last push)"
    )
    parser.add_argument("--file", type=Path, help="another file than the run's submission.csv")
    parser.add_argument(
        "--code", action="store_true", help="submit the kernel's version (a code competition)"
    )


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Run `ship submit`."""
    if arguments.file:
        chosen = context.state.values.setdefault("files", {}).setdefault(str(arguments.file), {})
    else:
        chosen = chosen_run(context, arguments.version)
    path = arguments.file or context.project.runs / name_of(chosen) / "submission.csv"
    if context.dry_run:
        return say(
            f"would submit {path} to {context.project.competition}: {message_of(chosen, path)}"
        )
    return submit(context, chosen, path, arguments.code, explicit=True)
