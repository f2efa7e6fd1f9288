"""Settings as typed dataclasses, their command line, and the members that they describe."""
