"""report.html: what a run did and what to do next, from its saved results and the photos alone.

note_attention(output, network, tables, fold)  # while the network is loaded
write_report(output)        # while a run is under way; can't fail it
finish(output)              # after it; in a notebook, its figures are shown
note_score(output, 0.97, "Kaggle's public score")  # once its submission has one
status = remake(output)     # anew, later, without TensorFlow
"""

from common import import_lazily

MODULES = {
    "finish": "writing",
    "note_attention": "attention",
    "note_score": "writing",
    "remake": "writing",
    "write_report": "writing",
}

__all__ = list(MODULES)
__getattr__ = import_lazily(__name__, MODULES)  # the kernel imports it before the command line
