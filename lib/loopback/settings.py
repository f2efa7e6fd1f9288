"""How the loopback Kaggle behaves."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What can be chosen about the loopback Kaggle; delays are in seconds."""

    user: str = "alice"
    """The only user."""
    key: str | None = None
    """The user's key; None accepts any."""
    token: str | None = None
    """The user's API token; None accepts any."""
    port: int = 0
    """The server's port; 0 lets the system choose one."""
    mount: str = "official"
    """How sources are mounted below /kaggle/input: one of `sandbox.LAYOUTS`."""
    dataset_delay: float = 0.2
    """How long a dataset's version takes to become READY."""
    queue_delay: float = 0.1
    """How long a run stays QUEUED."""
    scoring_delay: float = 0.2
    """How long a submission stays PENDING."""
    lag: float = 0.0
    """How long what was pushed or submitted is hidden: kernels answer 403, lists leave it out."""
    daily_submissions: int = 5
    """How many submissions a competition takes in a day."""
    gpu_sessions: int = 2
    """How many runs with a GPU may go on at a time."""
    metrics: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By competition the row of METRICS that scores it, and Kaggle's name of that; where it is not
    named, accuracy."""
    hidden: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    """By code competition the folder of its data in the run that is scored, in which the test set
    and the sample submission are the hidden ones, and the CSV of their labels."""
    scored_seconds: float = 9 * 3600
    """How long a run that is scored may last."""
    scored_memory: int | None = None
    """How many bytes of memory it may take; None is no limit."""
    models: Mapping[str, Path] = field(default_factory=dict)
    """By handle (owner/model/framework/variation/version) the folder of a model's files, of models
    that others have published."""
    gated: Collection[str] = ()
    """The models, as owner/model, whose license the user would have to accept first."""
    kaggle_errors: int = 0
    """How many scored runs of a version end by Kaggle's own fault before one does not."""
    accepted: bool = True
    """Whether the user has accepted the competitions' rules."""
