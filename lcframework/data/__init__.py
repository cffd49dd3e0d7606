"""Data sets: readers, stores and DataModules. Nothing here knows of models, tasks or scoring."""
