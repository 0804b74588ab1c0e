"""What holds for all tests: a busy machine is no fault, so hypothesis has no deadlines."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
