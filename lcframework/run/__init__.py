"""The steps of a run: compose, build, resume, fit, evaluate, record."""
