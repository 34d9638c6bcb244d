"""Run the pipeline locally, read Meltano's log, and check the quality of the marts."""
