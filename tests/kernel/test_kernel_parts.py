"""The benchmark of a run's parts finds what it measures."""

import kernel_parts


def test_every_measured_place_is_there():
    for owner, name, part in kernel_parts.places():
        assert callable(getattr(owner, name, None)), f"{part}: {owner} has no {name}"
