"""Scores as pure functions of predictions; nothing here knows of models, data or tasks."""
