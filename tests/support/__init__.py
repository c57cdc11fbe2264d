"""Helpers of the tests: models, data, runs and doubles. The fixtures that use them are in conftest.py."""
