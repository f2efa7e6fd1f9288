"""Write the results of a run: tables, probabilities, metrics.json and figures."""

from results.metrics import Metrics, StageMetrics, stage_sentence
from results.photos import note_photos
from results.run import write_results

__all__ = ["Metrics", "StageMetrics", "note_photos", "stage_sentence", "write_results"]
