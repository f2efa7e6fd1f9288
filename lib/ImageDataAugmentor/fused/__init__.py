"""The fast transforms, and how known ones run together."""
