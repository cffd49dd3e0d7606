"""Evaluate a checkpoint: `python -m lcframework.evaluate experiment=lcplm/evaluate checkpoint=RUN
data.test=FILE`."""

from omegaconf import DictConfig

from lcframework.run.app import hydra_app


def _work(cfg: DictConfig, multirun: bool) -> None:
    from lcframework.run.evaluate import evaluate

    evaluate(cfg)


main = hydra_app("evaluate", _work)

if __name__ == "__main__":
    main()
