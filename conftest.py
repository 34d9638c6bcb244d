"""What the tests of the workspace and of its connectors share: a busy machine is no failure of a property."""

from hypothesis import HealthCheck, settings

settings.register_profile("workspace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("workspace")
