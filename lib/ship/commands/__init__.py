"""The commands of `ship`, a file each."""
