"""The results of a run on disk, and report.html, which is made from these files alone."""
