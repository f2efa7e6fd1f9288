"""The scout: which backbones, at which sizes, become the members of a run.

Rung 0 asks every candidate for features of the labelled photos, and judges it by a cross-validated
logistic regression on them. Frozen features rank convolutional networks badly on cars, so where
time allows rung 1 fine-tunes the better half shortly (successive halving, Jamieson and Talwalkar
2016). The greedy selection that blends members chooses among what is left, and the members, epochs
and folds are those that fill the session.

A candidate that is finished is kept in the run's output: see `kernelkit.predict.candidates`.
"""

import dataclasses
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kernelkit.core.boundary import doing
from kernelkit.core.files import write_atomically
from kernelkit.core.metrics import Metric, log_loss, metric_named
from kernelkit.core.problem import Problem
from kernelkit.core.progress import clock_text
from kernelkit.data.split import group_folds
from kernelkit.predict.calibration import apply_temperature, temperature
from kernelkit.predict.candidates import EPOCHS, Candidate, KeptCandidates, full_stage, table
from kernelkit.predict.ensemble import FOLDS, greedy_weights
from kernelkit.train.costs import (
    REPORT_SECONDS,
    Filling,
    epoch_cost,
    fill_session,
    jobs_of,
    lengthened,
    seconds_of,
)
from kernelkit.train.devices import device_count, has_tensor_cores, worker
from kernelkit.train.plan import Run, make_plan
from kernelkit.train.preflight import NO_ANSWER, NoWorker, WorkerProcess, fitting
from kernelkit.train.preflight_worker import WORKED, StepFactory, answer
from kernelkit.train.scouting import Features, ShortRun, labelled, out_of_fold
from kernelkit.train.step_mode import StepMode, allowed_precisions

FOLDER = "scout"
SHARE = 0.2  # of the session that scouting may take, both rungs together
FILLED = 0.9  # of what is then left that the plan fills: training was not measured yet
MOST_PHOTOS = 4000  # that train in a short fine-tuning
# Of it, below which frozen features say more: after 30 steps MobileNet had 0.63 to 0.82 of the
# photos right of which a regression on its features had 0.80 to 0.90 (tests/benchmarks/choices.md).
LEAST_STEPS = 100
NO_TIME = "no time"
LEAST_WEIGHT = 0.05  # of a finalist in the blend
FINALISTS = 4  # at most


def scout(
    run: Run,
    factory: StepFactory,
    backbones: Mapping,
    views: Sequence,
    inputs: Path,
    start: float,
) -> Run:
    """Return the run with the members and the plan that the scout has chosen.

    A run that has chosen before keeps its choice. With `scout_only` it keeps none, and its plan
    is empty.

    Args:
        run: its members are the candidates.
        factory: makes networks and their steps.
        backbones: rows by name.
        views: of test-time augmentation.
        inputs: below which the outputs of earlier sessions may be mounted.
        start: when the session began, in seconds of time.monotonic().

    Raises:
        Problem: no candidate can be used, or several workers are to scout.
    """
    doing("scouting")
    if worker()[1] > 1:
        raise Problem("Several workers do not scout: name the networks with --members.")
    if "members" in run.state.scouting:
        filling = _chosen(run)
        print("an earlier session of this run has chosen its members")
    else:
        filling = _choose(run, Scout(run, factory, backbones, views, inputs))
    if filling.members:
        print(f"chosen: {_sentence(filling, len(run.folds))}", flush=True)
    members = {
        name: dataclasses.replace(
            run.members[name], stages=lengthened(run.members[name].stages, filling.length)
        )
        for name in filling.members
    }
    folds, limit = run.folds[: filling.folds], run.config.time_limit
    plan = make_plan(members, backbones, views, folds, run.state, start, limit)
    return dataclasses.replace(run, members=members, plan=plan)


def _choose(run: Run, scouting: "Scout") -> Filling:
    """Try the candidates, keep the table of them and the choice, and return it."""
    scouting.look_at_all()
    filling = scouting.choose()
    speeds = {c.name: c.figures["predict"] for c in scouting.alive}
    rows = scouting.rows(filling)
    run.state.scouting = {"rows": rows, "speeds": speeds}
    if run.config.scout_only:
        filling = dataclasses.replace(filling, members=[])
    else:
        run.state.scouting |= dataclasses.asdict(filling)
        scouting.kept.drop_features()
    run.state.save()
    write_atomically(run.output / FOLDER / "candidates.txt", f"{table(rows)}\n")
    print(table(rows), flush=True)
    return filling


def forecast(run: Run) -> str:
    """Return what the candidates would take on one fold, and what would fill the session.

    Speeds are the published ones: computed, not measured. Where members are chosen already, these
    are named.
    """
    if "members" in run.state.scouting:
        return f"chosen by an earlier session: {_sentence(_chosen(run), len(run.folds))}"
    jobs = [job for job in run.plan.jobs if job.fold == 0]
    rates = {job.member: run.plan.published for job in jobs}
    left = run.plan.end - time.monotonic() - REPORT_SECONDS
    filling = fill_session(jobs[:FINALISTS], rates, len(run.folds), FILLED * (1 - SHARE) * left)
    times = [f"  {j.member}: {clock_text(seconds_of(j, rates[j.member]))} a fold" for j in jobs]
    return "\n".join(
        [
            f"plan: a scout tries {len(jobs)} candidates; at most {FINALISTS} become members",
            *times,
            f"were the first ones chosen: {_sentence(filling, len(run.folds))}",
            "  computed from published throughputs, not measured",
        ]
    )


def _chosen(run: Run) -> Filling:
    """Return what an earlier session of a run has chosen."""
    names = [field.name for field in dataclasses.fields(Filling)]
    return Filling(**{name: run.state.scouting[name] for name in names})


def _sentence(filling: Filling, folds: int) -> str:
    """Return what fills the session, and why."""
    length = "the recipe's epochs"
    if filling.length != 1:
        length = f"{filling.length:g} times the recipe's epochs"
    return (
        f"{', '.join(filling.members)}, {length}, {filling.folds} of {folds} "
        f"fold{'s' * (folds != 1)}, about {clock_text(filling.seconds)}: {filling.reason}"
    )


class Scout:
    """Looks at the candidates of a run. The arguments are those of `scout`.

    Attributes:
        candidates: in the order of the settings.
        judged: positions of the photos on which all are compared, among those of `labelled`.
    """

    def __init__(
        self, run: Run, factory: StepFactory, backbones: Mapping, views: Sequence, inputs: Path
    ):
        self.run, self.factory, self.tables = run, factory, run.folds[0]
        photos = labelled(self.tables)
        self.ids, self.truth = photos.Id.to_numpy(str), self.tables.positions(photos)
        self.classes = len(self.tables.competition.classes)
        self.metric: Metric = metric_named(self.tables.competition.layout.metric)
        self.held = np.arange(len(self.tables.train), len(photos))  # the first fold's
        groups = photos.group.to_numpy()
        self.folds = group_folds(self.truth, groups, FOLDS, run.config.seed) or [self.held]
        self.judged = np.sort(np.concatenate(self.folds))
        counts = len(self.tables.train), len(self.held), len(self.tables.test)
        jobs = jobs_of(run.members, backbones, views, 0, counts)
        self.candidates = [Candidate(job.member, run.members[job.member], job) for job in jobs]
        precisions = allowed_precisions(run.config.mixed_precision, has_tensor_cores())
        self.mode = StepMode(device_count(), precisions[0])
        self.began = time.monotonic()
        self.end = self.began + SHARE * (run.plan.end - self.began)
        self.kept = KeptCandidates(run.output / FOLDER, inputs, run.state, self.ids)

    @property
    def alive(self) -> list[Candidate]:
        """The candidates that rung 0 has judged."""
        return [each for each in self.candidates if each.frozen is not None]

    @property
    def untried(self) -> list[Candidate]:
        """Those that no time was left for, though their weights are there; the cheapest first."""
        late = [each for each in self.candidates if each.reason.startswith((NO_TIME, NO_ANSWER))]
        return sorted(late, key=lambda each: each.job.gmacs)

    # ------------------------------------------------------------------------------- two rungs

    def look_at_all(self) -> None:
        """Take every candidate through rung 0, and the better half through rung 1."""
        print(f"scouting {len(self.candidates)} candidates on {len(self.ids)} photos", flush=True)
        with tempfile.TemporaryDirectory(prefix="scout-") as folder:
            process = WorkerProcess(self.tables, self.factory, Path(folder) / "printed.txt")
            try:
                for candidate in sorted(self.candidates, key=lambda each: each.job.gmacs):
                    self._look(candidate, process)
                if not self.alive and not self.untried:
                    reasons = [f"{each.name}: {each.reason}" for each in self.candidates]
                    raise Problem(f"No candidate can be used ({'; '.join(reasons)}).")
                for candidate in self._better_half():
                    self._tune(candidate, process)
            finally:
                process.stop()

    def _look(self, candidate: Candidate, process: WorkerProcess) -> None:
        """Judge a candidate by a regression on its frozen features, unless an earlier run has."""
        known = self.kept.take_up(candidate)
        if not known:
            try:
                self.factory.weights(candidate.config)
            except Exception as error:
                kind = "" if isinstance(error, Problem) else f"{type(error).__name__}: "
                candidate.reason = f"{kind}{error}".rstrip(".")
            else:
                self._compute(candidate, process)
        if candidate.frozen is None:
            print(f"  {candidate.name}: {candidate.reason}", flush=True)
            return
        score = self.metric.score(candidate.frozen[self.judged], self.truth[self.judged])
        speed, seconds = candidate.figures["predict"], time.monotonic() - self.began
        print(
            f"  {candidate.name}: {self.metric.name} {score:.4f} out of fold, {speed:.0f} photos "
            f"a second, {'of an earlier session' if known else f'after {clock_text(seconds)}'}",
            flush=True,
        )

    def _compute(self, candidate: Candidate, process: WorkerProcess) -> None:
        found = self._order(process, Features(self.mode, candidate.config))
        candidate.reason = "" if found["outcome"] == WORKED else found["outcome"]
        if candidate.reason:
            return
        candidate.features = found["features"]
        candidate.figures = {name: found[name] for name in ("predict", "peak_bytes")}
        arguments = candidate.features, self.truth, self.classes, self.folds
        candidate.frozen = out_of_fold(*arguments)
        self.kept.keep(candidate)

    def _order(self, process: WorkerProcess, order) -> dict:
        """Return the answer to an order, from the process where one can be started."""
        left = self.end - time.monotonic()
        if left <= 0:
            return {"outcome": f"{NO_TIME}: scouting takes {SHARE:.0%} of the session at most"}
        try:
            return process.take(order, left)
        except NoWorker as failure:
            print(f"no process to scout in ({failure})", flush=True)
            return answer(order, self.tables, self.factory)

    def _better_half(self) -> list[Candidate]:
        """Return the candidates that a short fine-tuning is to correct, as far as time allows."""
        if not self.alive:
            return []
        ranked = self._ranked(self.alive, self.judged)
        photos, free, taken = min(len(self.tables.train), MOST_PHOTOS), self.end, []
        if EPOCHS * photos < LEAST_STEPS * max(each.config.batch_size for each in ranked):
            print(f"  no short fine-tuning: {photos} photos make too few steps", flush=True)
            return []
        half = ranked[: max(2, math.ceil(len(ranked) / 2))]
        for candidate in ranked[len(half) :]:
            candidate.reason = "not in the better half on frozen features"
        if len(ranked) == 1 or not any(not stage.views for stage in half[0].config.stages):
            return []
        for candidate in half:
            cost = EPOCHS * epoch_cost(full_stage(candidate.config)) * photos + len(self.held)
            free -= cost / candidate.figures["predict"] if candidate.tuned is None else 0
            if free < time.monotonic():
                print(f"  {candidate.name}: no time for a short fine-tuning", flush=True)
                return []  # half of them tuned would not be compared fairly
            taken.append(candidate)
        return taken

    def _tune(self, candidate: Candidate, process: WorkerProcess) -> None:
        """Fine-tune a candidate shortly, unless an earlier run has."""
        if candidate.tuned is None:
            if candidate.features is None:  # an earlier run has kept its figures alone
                self._compute(candidate, process)
            if candidate.reason:
                return
            rows, stage = self._few_photos(), full_stage(candidate.config)
            features = candidate.features[:, np.concatenate([rows, self.held])]
            config = candidate.config
            _, found = fitting(
                lambda mode: self._order(process, ShortRun(mode, config, stage, rows, features)),
                self.mode,
                config.batch_size,
            )
            if (outcome := found["outcome"]) != WORKED:
                print(f"  {candidate.name}: short fine-tuning: {outcome}", flush=True)
                if not outcome.startswith((NO_TIME, NO_ANSWER)):  # else its features speak for it
                    candidate.reason = f"short fine-tuning: {outcome}"
                return
            candidate.tuned = found["tuned"]
            peaks = [candidate.figures["peak_bytes"], found["peak_bytes"]]
            candidate.figures |= {
                "images_per_second": found["images_per_second"],
                "peak_bytes": max(filter(None, peaks), default=None),
            }
            self.kept.keep(candidate)
        score = self.metric.score(candidate.tuned, self.truth[self.held])
        before = self.metric.score(candidate.frozen[self.held], self.truth[self.held])
        print(
            f"  {candidate.name}: {self.metric.name} {score:.4f} after {EPOCHS} epochs, "
            f"{before:.4f} before, on {len(self.held)} photos",
            flush=True,
        )

    def _few_photos(self) -> np.ndarray:
        """Return positions of training photos for a short fine-tuning, of each class alike."""
        train = self.tables.train.reset_index(drop=True)
        each = max(2, MOST_PHOTOS // self.classes)
        drawn = train.sample(frac=1, random_state=self.run.config.seed).groupby("label").head(each)
        return np.sort(drawn.index.to_numpy())

    # ------------------------------------------------------------------------------- the choice

    def _seen(self, candidate: Candidate, photos: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities by which a candidate is compared on photos.

        Where it was tuned, and these are the first fold's photos, they are the better ones of both
        rungs.
        """
        found, truth = [candidate.frozen[photos]], self.truth[photos]
        if candidate.tuned is not None and photos is self.held:
            found.append(candidate.tuned)
        best = min(found, key=lambda each: log_loss(each, truth))
        return apply_temperature(best, temperature(best, truth))

    def _ranked(self, candidates: Sequence[Candidate], photos: np.ndarray) -> list[Candidate]:
        """Return candidates with their weights in a blend: the best one, then by weight.

        Of a network at several sizes the largest counts as the best, unless it is worse by more
        than one standard error, paired by photo: frozen features hardly tell sizes apart, and once
        trained the larger was better in nearly all of tests/benchmarks/choices.md.
        """
        by_name = sorted(candidates, key=lambda each: each.name)
        truth, stack = self.truth[photos], np.stack([self._seen(each, photos) for each in by_name])
        weights = greedy_weights(stack, truth, self.run.config.seed)
        merits = [(self.metric.merit(each, truth), -log_loss(each, truth)) for each in stack]
        for candidate, weight in zip(by_name, weights.tolist(), strict=True):
            candidate.weight = weight
        order = sorted(range(len(by_name)), key=lambda n: (weights[n], merits[n]), reverse=True)
        best = max(order, key=lambda n: merits[n])
        network = by_name[best].config.backbone
        sizes = [n for n in order if by_name[n].config.backbone == network]
        gains = {n: self.metric.gain(stack[best], stack[n], truth) for n in sizes}
        equal = [n for n, (gain, error) in gains.items() if gain >= -error]
        best = max(equal, key=lambda n: (math.prod(by_name[n].config.image_size), merits[n]))
        return [by_name[n] for n in [best, *(n for n in order if n != best)]]

    def choose(self) -> Filling:
        """Choose the finalists, and which of them fill the session.

        Where there was no time to look at any, the cheapest one trains: there is a submission.
        """
        if not self.alive:
            reason = "there was no time to scout, so the cheapest one trains"
            return Filling([self.untried[0].name], 1.0, 1, math.nan, reason)
        pool = [each for each in self.alive if not each.reason] or self.alive
        tuned = any(each.tuned is not None for each in pool)
        ranked = self._ranked(pool, self.held if tuned else self.judged)
        for candidate in self.alive:
            candidate.weight *= candidate in pool
        finalists = [
            each for n, each in enumerate(ranked) if n == 0 or each.weight >= LEAST_WEIGHT
        ][:FINALISTS]
        for candidate in ranked:
            enough = "" if candidate in finalists else ", which is too little"
            candidate.reason = f"weight {candidate.weight:.2f} in a blend{enough}"
        left = self.run.plan.end - time.monotonic() - REPORT_SECONDS
        rates = {each.name: each.rate for each in finalists}
        jobs = [each.job for each in finalists]
        filling = fill_session(jobs, rates, len(self.run.folds), FILLED * left)
        for candidate in finalists:
            if candidate.name not in filling.members:
                candidate.reason += ", but it does not fit into the session"
        return filling

    def rows(self, filling: Filling) -> list[dict]:
        """Return a row for each candidate, chosen ones first: the fields of CandidateMetrics."""
        parts = self.metric, self.truth, self.judged, self.held
        rows = [each.row(each.name in filling.members, *parts) for each in self.candidates]
        return sorted(rows, key=lambda row: (-row["chosen"], -(row["weight"] or 0)))
