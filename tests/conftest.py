"""What holds for all tests."""

from hypothesis import settings

# a machine that is busy with something else is no failure
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
