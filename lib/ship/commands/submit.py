"""`ship submit`: check a submission, send it at most once, and wait for its score.

The message of every submission begins with `ship HASH.MARK`. By the hash of the file (in a code
competition of the version too) one that was sent before is found and taken up; by the random mark
this very submission is found when Kaggle's answer was lost.
"""

import argparse
import contextlib
import html
import math
import re
import secrets
import time
from pathlib import Path

from kernelkit.core.problem import Problem
from kernelkit.report.writing import note_score
from ship.command_line import (
    Usage,
    number_of,
    only_version,
    option,
    switch,
    version_arguments,
    version_or,
)
from ship.commands.fetch import SUBMISSION, read_metrics
from ship.commands.push import chosen_run
from ship.commands.submission import Unscorable, check_for, takes_kernels_only
from ship.context import Context
from ship.kaggle.client_process import AnswerLost, Refused, Unavailable
from ship.kaggle.send_once import Absent, DeliveryStatus, Found, Transmission, Unknown
from ship.ledger import Run, Submission, file_run_name
from ship.output import emit_json, say
from ship.project.contents import sha256
from ship.project.project import KERNEL_METADATA
from ship.project.script import read_block

REFERENCE = 0.96838  # public score of the reference recipe
REFERENCE_COMPETITION = "sf-dl-car-classification"
KAGGLE_ERROR = "kaggle error"  # a reason for which Kaggle asks to submit the same once more
OWN_MESSAGE = re.compile(r"ship ([0-9a-f]{16})\.")  # begins with the hash of the file


class FaultOfKaggle(Unscorable):
    """The scoring of a submission has failed by Kaggle's own fault."""


def submit(
    context: Context,
    run: Run,
    path: Path,
    code: bool = False,
    again: bool = False,
    adopted: int | None = None,
    wait: bool = True,
) -> None:
    """Check a submission, send it unless the same file was sent before, and wait for its score.

    Args:
        context: the project, Kaggle and the state.
        run: the run's record, or that of a file of one's own.
        path: the submission.
        code: submit the kernel's version instead of the file, for a code competition.
        again: send it although the same file was, or may have been, sent before.
        adopted: take up the submission of this number instead of sending.
        wait: until there is a score.

    Raises Unscorable where the submission is missing or can't be scored, and Problem where it is
    refused, or nobody knows whether it arrived.
    """
    context.doing(f"submitting {path}")
    command = _command(run, path, code)
    refuse_foreign(context, run, path)
    _check(context, run, path, varied=not code)
    digest = _digest(run, path, code)
    if (run.submission.digest, run.submission.user or context.owner) != (digest, context.owner):
        _replace(run, Submission(digest, path.name))
    scored = run.public_score is not None and run.submission.ref
    if scored and not again and adopted in (None, run.submission.ref):
        return _report(context, run, run.public_score)
    with context.sending():
        if adopted:
            _take(context, run, _adoptable(context, adopted, digest), "a person's word")
        elif again or not _sent_before(context, run, path, code):
            _send(context, run, path, code)
    if not wait:
        return None
    try:
        return _wait_for_score(context, run, command)
    except FaultOfKaggle as fault:
        if run.submission.after:
            raise
        say(f"{fault} It is sent once more now")
    with context.sending():
        _send(context, run, path, code)
    return _wait_for_score(context, run, command)


def _digest(run: Run, path: Path, code: bool) -> str:
    """Return what tells a submission from all others: the file, or with `code` the version too.

    Two versions may write the same file for a few public photos, and differ on the hidden ones.
    """
    digest = sha256(path)
    return (sha256(f"{digest} {run.kernel}/{run.version}".encode()) if code else digest)[:16]


def _replace(run: Run, submission: Submission) -> None:
    """Give a run another submission, which the score of the one before is not of."""
    run.submission, run.public_score = submission, None
    for step in ("submitted", "scored"):
        run.verified.pop(step, None)


def refuse_foreign(context: Context, run: Run, path: Path) -> None:
    """Raise Problem for a run of other code, another competition or user; its file is `path`."""
    user = run.kernel.partition("/")[0]
    if user not in ("", context.owner):
        raise Problem(
            f"{run.name} is a run of {user}, and the credentials are {context.owner}'s: push one "
            f"with `ship push`, or submit its file all the same with `ship submit {path}`."
        )
    if not context.is_here(run):
        raise Problem(
            f"{run.name} is a run for {run.competition}, and "
            f"{KERNEL_METADATA} names {context.project.competition}: name that one there again to "
            f"submit this run, or submit its file to this one with `ship submit {path}`."
        )
    if not run.of_other_code:
        return
    runs = context.ledger.runs()
    others = [other.dataset for other in runs if other.packages == run.found and other.dataset]
    raise Problem(
        f"{run.name} was pushed for dataset {run.dataset} and found other packages there"
        f"{f', those of {others[-1]}' if others else ''}: Kaggle mounts the newest version that is "
        f"ready when a run starts. `{context.again}` runs the same once more, `ship submit "
        f"{path}` submits this file all the same."
    )


def _check(context: Context, run: Run, path: Path, varied: bool) -> None:
    if not path.is_file():
        raise Unscorable(
            f"the output of {run.name} has no {path.name}: its log in {path.parent} shows why."
            if run.files and path.name not in run.files
            else f"there is no {path}: `ship fetch {run.name}` fetches the run's output."
        )
    if run.version and "fetched" not in run.verified:  # a kernel made anew counts from 1 again
        raise Unscorable(
            f"{path} was not fetched for this {run.name}: `ship fetch {run.name}` fetches it."
        )
    try:
        check_for(context, path, varied)
    except Unscorable as problem:
        if not run.version:
            raise
        if run.files:  # whatever is wrong with it may be the download's fault
            run.files = {}
            context.ledger.keep(run)
        raise Unscorable(
            f"{problem} Correct the kernel or its settings and run `ship` again, or submit a "
            "corrected copy with `ship submit FILE`."
        ) from None


def _command(run: Run, path: Path, code: bool) -> str:
    """Return the command that submits this version, or file of one's own, and no other."""
    version = f"{run.name} --code" if code else run.name
    return f"ship submit {version if run.version else path}"


def _sent_before(context: Context, run: Run, path: Path, code: bool) -> bool:
    if run.submission.ref:
        return True
    sent = _transmission(context, run, path, code)
    if run.submission.mark and (found := sent.settle_earlier()):
        _take(context, run, *found.evidence)
        return True
    if known := _known_submission(context, run.submission.digest):
        say(f"this very file was submitted before, as {known['ref']}: it is not sent again")
        _take(context, run, known, "the hash in its message")
        return True
    return False


def _known_submission(context: Context, digest: str) -> dict | None:
    """Return Kaggle's entry of a submission of the same file whose scoring has not failed."""
    refs = {run.submission.ref for run in context.ledger.runs() if run.submission.digest == digest}
    same = [
        entry
        for entry in context.remote.submissions(context.project.competition)
        if entry.get("status") != "ERROR"
        and (f"{digest}." in _message(entry) or entry.get("ref") in refs - {0, None})
    ]
    return next((entry for entry in same if entry.get("status") == "COMPLETE"), (same or [None])[0])


def _adoptable(context: Context, ref: int, digest: str) -> dict:
    """Return Kaggle's entry of a submission; Problem if its message has another file's hash."""
    entry = _entry(context, ref)
    if not entry:
        raise Problem(
            f"Kaggle lists no submission {ref} of yours to {context.project.competition}."
        )
    found = OWN_MESSAGE.match(_message(entry))
    if found and found[1] != digest:
        raise Problem(
            f"submission {ref} is of another file, by the hash in its message: it is not taken up. "
            "`ship submit` without --adopt finds this file's own submission."
        )
    return entry


def _entry(context: Context, ref: int) -> dict:
    entries = context.remote.submissions(context.project.competition)
    return next((entry for entry in entries if entry.get("ref") == ref), {})


def _message(entry: dict) -> str:
    return html.unescape(entry.get("description") or "").replace("\\", "")


def _new_message(run: Run, path: Path) -> str:
    words = [run.name if run.version else path.name, run.recipe, run.backbone]
    metrics = read_metrics(path.parent)
    if isinstance(score := metrics.get("score"), float):
        metric = metrics.get("metric", "accuracy")
        words.append(f"validation {'' if metric == 'accuracy' else f'{metric} '}{score:.4f}")
    return " ".join(filter(None, words))


def _count(context: Context) -> int:
    """Return how many submissions Kaggle counts, -1 when it gives no number."""
    try:
        limits = context.remote.submissions_left(context.project.competition)
    except (Refused, Unavailable):
        return -1
    return limits.get("numTotal") or 0 if limits else -1  # Kaggle leaves out what is 0


def _send(context: Context, run: Run, path: Path, code: bool) -> None:
    competition = context.project.competition
    later = f"`{_command(run, path, code)}` sends the same file once Kaggle takes it."
    count = _count(context)
    refs = [entry.get("ref") for entry in context.remote.submissions(competition)]

    def begin() -> None:
        earlier = run.submission.ref or run.submission.after
        digest, mark = run.submission.digest, secrets.token_hex(4)
        sent = Submission(digest, path.name, mark, 0, refs, count, earlier, context.owner)
        _replace(run, sent)
        context.ledger.keep(run)

    def hand_in() -> tuple[dict, str]:
        message = f"ship {run.submission.token} {_new_message(run, path)}"
        fields = {"file": str(path), "message": message, "competition": competition}
        if code:
            fields |= {"file": path.name, "kernel": run.kernel, "kernel_version": run.version}
        try:
            answer = context.remote.call("submit", "the submission", once=True, **fields)
        except Refused as refusal:
            cure = later
            if not code and takes_kernels_only(context):
                cure = "`ship predict` submits a kernel that predicts with a run's networks."
            raise Problem(f"{str(refusal).rstrip('.')}: {cure}") from None
        if answer["ref"]:
            return {"ref": answer["ref"]}, "Kaggle's answer"
        if not answer["message"]:
            raise AnswerLost("it has neither a number nor a reason")
        found = _probe(context, run.submission)  # a refusal with a reason needs no long proof
        if isinstance(found, Found):
            return found.evidence
        refused = answer["message"].rstrip(".")
        raise Problem(f"Kaggle did not take the submission: {refused}: {later}")

    say(f"submitting {path} to {competition}")
    _take(context, run, *_transmission(context, run, path, code).send(begin, hand_in))


def _transmission(context: Context, run: Run, path: Path, code: bool) -> Transmission:
    def forget() -> None:
        run.submission = Submission(run.submission.digest, path.name)
        context.ledger.keep(run)

    page = f"https://www.kaggle.com/competitions/{context.project.competition}/submissions"
    command = _command(run, path, code)
    return Transmission(
        context,
        what=f"the submission of {path.name}",
        probe=lambda: _probe(context, run.submission),
        forget=forget,
        decide=(
            f"see {page}; `{command} --adopt REF` takes up the one that arrived, `{command} "
            "--again` sends it once more."
        ),
    )


def _probe(context: Context, sent: Submission) -> DeliveryStatus:
    entries = list(context.remote.submissions(context.project.competition))
    for entry in entries:
        if sent.token in _message(entry):
            return Found((entry, "the mark in its message"))
    new = [entry for entry in entries if entry.get("ref") not in sent.refs_before]
    for entry in new:
        begun = _message(entry).rstrip(".… ")
        if len(begun) >= len("ship 01234567") and f"ship {sent.token}".startswith(begun):
            return Found((entry, "the beginning of its message"))
    unmarked = [entry for entry in new if not OWN_MESSAGE.search(_message(entry))]
    if unmarked:  # Kaggle may call the file otherwise, and need not keep the message
        named = (unmarked[0].get(name) for name in ("ref", "fileName", "date"))
        return Unknown(f"submission {' of '.join(str(text) for text in named if text)} may be it")
    count = _count(context)
    if sent.count_before >= 0 and count < 0:
        return Unknown("Kaggle gives no number of submissions")
    if sent.count_before >= 0 and count - sent.count_before > len(new):
        return Unknown(f"Kaggle counts {count} submissions, more than it lists")
    return Absent()


def _take(context: Context, run: Run, entry: dict, verified: str) -> None:
    if run.submission.ref:  # a person takes up another one
        _replace(run, Submission(run.submission.digest, run.submission.file))
    run.submission.ref, run.submission.user = entry.get("ref") or 0, context.owner
    run.competition = context.project.competition
    run.submission.refs_before = []
    run.verified["submitted"] = verified
    context.ledger.keep(run)
    emit_json(submission=run.submission.ref)


def _wait_for_score(context: Context, run: Run, command: str) -> None:
    """Wait until what a command submits has its score, and report it; outages are waited out."""
    ref = run.submission.ref
    context.doing(f"waiting for the score of submission {ref}")
    say(f"submission {ref} was taken; waiting for its score")
    known, complete = ["PENDING", "COMPLETE"], None  # since when, in seconds waited
    for waited in context.asking():
        try:
            with context.remote.patient(context.timeouts.outage):
                entry = _entry(context, ref)
        except Refused as refusal:
            entry = {"status": f"HTTP {refusal.status}"}
        status = str(entry.get("status") or "PENDING").upper()
        if status == "COMPLETE" and (score := score_in(entry.get("publicScore"))) is not None:
            return _report(context, run, score)
        complete = (waited if complete is None else complete) if status == "COMPLETE" else None
        if complete is not None and waited - complete > context.timeouts.prove:
            return say(f"submission {ref} is COMPLETE, Kaggle shows no score of it", result=True)
        if status == "ERROR":
            reason = entry.get("errorDescription") or "it gave no reason"
            kind = FaultOfKaggle if KAGGLE_ERROR in reason.lower() else Unscorable
            raise kind(
                f"Kaggle could not score submission {ref}: {reason}. "
                f"`{command} --again` sends the same once more."
            )
        if status not in known:
            say(f"Kaggle gives the unknown status {status!r} for submission {ref}: asking again")
            known.append(status)
        if waited > context.timeouts.score:
            raise Problem(
                f"submission {ref} has no score after {waited / 60:.0f} minutes, its status is "
                f"{status}: run the same command again to ask for it; nothing is sent twice."
            )
    return None


def score_in(text: str | float | None) -> float | None:
    """Return the score that Kaggle gives as text, None for none; Problem if it is no number."""
    text = "" if text is None else str(text).strip().replace(",", ".")
    if not text:
        return None
    with contextlib.suppress(ValueError):
        if math.isfinite(score := float(text)):
            return score
    raise Problem(
        f"Kaggle gives the score {text!r}, which is no number: see the submission's page; the "
        "same command asks again, and nothing is sent twice."
    )


def _report(context: Context, run: Run, score: float) -> None:
    """Print a score with its distance to the reference's and to the best so far; then note it.

    A dry run's score is of other photos than the reference's, or of a network too small to compare.
    """
    name = run.name if run.version else run.submission.file
    if run.score is None:  # a run that has measured itself knows which scores are better
        from kernelkit.core.metrics import metric_named  # imports NumPy

        run.metric = read_block(context.project.code).metric
        run.greater_is_better = metric_named(run.metric).greater
    best = context.ledger.best(context.project.competition, run)
    distances = []
    if run.recipe != "dry" and context.project.competition == REFERENCE_COMPETITION:
        distances.append(f"({score - REFERENCE:+.5f} to the reference's {REFERENCE})")
    if best is not None:
        distances.append(f"({score - best:+.5f} to the best so far {best:.5f})")
    say(" ".join([f"public score of {name}: {score:.5f}", *distances]), result=True)
    run.public_score = score
    run.verified["scored"] = f"submission {run.submission.ref} is COMPLETE"
    context.ledger.keep(run)
    if run.version:
        note_score(context.folder(run), score, "Kaggle's public score")
    emit_json(run=run.name, submission=run.submission.ref, public_score=score)


def _record_of(context: Context, path: Path) -> Run:
    if path.is_dir():
        raise Problem(f"{path} is a folder: name the file in it, such as {path / SUBMISSION}.")
    if not path.is_file():
        raise Problem(
            f"{path} is neither a file that is there nor a version: name the file to submit, or "
            "the run by its version."
        )
    name, competition = file_run_name(path.name, sha256(path)), context.project.competition
    known = context.ledger.find(name)
    if known and not context.is_here(known):  # the same file was submitted to another one
        name = f"{name}-{competition}"
        known = context.ledger.find(name)
    if known:
        return known
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return Run(name, time=now, status="file", competition=competition)


ARGUMENTS = (
    *version_arguments(version_or(Path.is_file), "WHAT", ", or a file of one's own"),
    switch("--code", "submit the kernel's version (a code competition)"),
    switch("--again", "send the file although it was, or may be, sent before"),
    option("--adopt", "take up this submission instead of sending",
        type=number_of(int, least=1), metavar="REF"),
)  # fmt: skip


def run(context: Context, arguments: argparse.Namespace) -> None:
    """Submit, and wait for the score."""
    what = only_version(arguments)
    if isinstance(what, Path):
        if arguments.code:
            raise Usage(
                "--code submits a version of the kernel, whose output Kaggle takes itself, and not "
                f"a file of one's own: give `ship submit --code` a version, not {what}."
            )
        chosen, path = _record_of(context, what), what
    else:
        chosen = chosen_run(context, what)
        path = context.folder(chosen) / SUBMISSION
    if context.dry_run:
        competition = context.project.competition
        return say(f"would submit {path} to {competition}: {_new_message(chosen, path)}")
    with context.holding(chosen, context.timeouts.score):
        wait = not arguments.no_wait
        return submit(context, chosen, path, arguments.code, arguments.again, arguments.adopt, wait)
