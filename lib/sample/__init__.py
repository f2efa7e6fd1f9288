"""The drawn competitions: photos of drawn cars, for a dry run without any data (local only)."""

NOTE = (
    "This is a dry run: a tiny network, pre-trained on drawn vehicles of other kinds, learns ten "
    "kinds of drawn cars. Its accuracy shows that everything works, and nothing about real photos."
)
