"""What the tests share and no test is: models, data, runs and doubles. Fixtures made of them are in conftest.py."""
