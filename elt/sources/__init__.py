"""What meltano.yml loads, and an independent count of it."""
