"""One run of the pipeline: the local run, what Meltano logs, the quality checks."""
