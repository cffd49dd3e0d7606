"""Train and test a model: `python -m lcframework.train experiment=lcplm/quickstart`."""

from omegaconf import DictConfig

from lcframework.run.app import hydra_app


def _work(cfg: DictConfig, multirun: bool) -> float | None:
    from lcframework.run.fit import train

    record, objects = train(cfg, multirun)
    if cfg.get("optimized_metric"):
        found = record["metrics"].get(cfg.optimized_metric)
        return (
            found["value"]
            if found
            else float(objects["trainer"].callback_metrics[cfg.optimized_metric])
        )
    return None


main = hydra_app("train", _work)

if __name__ == "__main__":
    main()
