"""What notebooks for Keras 2 and albumentations 1 need. The kernel never imports it."""


def install() -> None:
    """Change Keras and albumentations so that old notebooks run, or their errors name the way out.

    Calling it again changes nothing.
    """
    from . import guide, keras_changes

    global _installed
    if not _installed:
        guide.name_replacements()
        guide.explain_refusals()
        keras_changes.prepare_data()
        keras_changes.explain_generator_methods()
    _installed = True


_installed = False
