"""Configure the workspace: .env, the validated settings, and the environment variables of every process."""
