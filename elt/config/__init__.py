"""What is set: .env, the checked settings, and the environment of every process."""
