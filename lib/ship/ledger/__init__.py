"""What `ship` remembers in runs/: what is being sent, and the record of every run."""
