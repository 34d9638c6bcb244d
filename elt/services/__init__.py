"""Each server of the stack: how it is started, probed and connected to."""
