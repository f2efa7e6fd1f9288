"""The project on this machine: its kernel, its metadata, and the dataset of lib/."""
