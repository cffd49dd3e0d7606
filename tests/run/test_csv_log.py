"""metrics.csv: appended, widened, cut back on resume, readable after a kill."""

from lcframework.run.csv_log import RunCSVLogger, read_metrics


def test_columns_grow_and_rows_stay(tmp_path):
    logger = RunCSVLogger(tmp_path, flush_every=1)
    logger.log_metrics({"a": 1.0}, 0)
    logger.log_metrics({"b": 2.5}, 1)
    logger.log_metrics({"a": 3.0, "b": 4.0}, 2)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert rows == [{"step": 0, "a": 1.0}, {"step": 1, "b": 2.5}, {"step": 2, "a": 3.0, "b": 4.0}]


def test_a_resumed_run_continues_the_trace_byte_for_byte(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    logger = RunCSVLogger(whole)
    for step in range(6):
        logger.log_metrics({"loss": 1 / (step + 3), "epoch": step // 2}, step)
    logger.finalize("success")
    logger = RunCSVLogger(broken, flush_every=1)
    for step in range(5):
        logger.log_metrics({"loss": 1 / (step + 3), "epoch": step // 2}, step)
    resumed = RunCSVLogger(broken)
    resumed.rewind(3)
    for step in range(3, 6):
        resumed.log_metrics({"loss": 1 / (step + 3), "epoch": step // 2}, step)
    resumed.save()
    assert (broken / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_a_half_written_last_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n0,1.5\n1,1.")
    assert read_metrics(path) == [{"step": 0, "loss": 1.5}]


def test_a_row_lost_between_checkpoint_and_log_comes_back(tmp_path):
    logger = RunCSVLogger(tmp_path)
    logger.log_metrics({"train/loss": 3.0, "epoch": 0}, 0)
    resumed = RunCSVLogger(tmp_path)
    resumed.rewind(2, {"train/loss": 2.5, "epoch": 0})
    resumed.rewind(2, {"train/loss": 9.0, "epoch": 0})
    losses = [row["train/loss"] for row in read_metrics(tmp_path / "metrics.csv")]
    assert losses == [3.0, 2.5]
