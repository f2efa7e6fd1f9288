"""The drawn competitions: photos of drawn cars, for a dry run without any data (local only)."""
