"""Lightning callbacks that run a scoring protocol or keep a run alive."""
