"""Find what meltano.yml loads, and count it independently."""
