"""The metrics of a run sum up what each stage did."""

from dataclasses import asdict, dataclass

from results import StageMetrics


@dataclass
class Stage:
    name: str
    fraction: float = 0.5
    learning_rate: float = 1e-3


def test_stage_metrics_sum_up_what_ran():
    rows = [
        {"stage": "half", "val_accuracy": accuracy, "seconds": 10.0, "images_per_second": speed}
        for accuracy, speed in ((0.6, 90.0), (0.8, 110.0))
    ]
    metrics = StageMetrics.of(Stage("half"), rows, "b3", 2)
    assert asdict(metrics) == {
        "member": "b3",
        "fold": 2,
        "name": "half",
        "share": 0.5,
        "learning_rate": 1e-3,
        "epochs_run": 2,
        "best_val_accuracy": 0.8,
        "seconds": 20,
        "images_per_second": 100,
    }
    assert metrics.sentence("the head trains", 0.9, "0:01:00") == (
        "stage half is over: the head trains, 2 epochs in 20 s, best val_accuracy 0.8000 "
        "(of all stages 0.9000), 100 images/s, left 0:01:00"
    )
    assert "0 epochs" in StageMetrics.of(Stage("all"), rows, "b3", 2).sentence("all", 0.9, "-")
