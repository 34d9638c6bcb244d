"""What keeps a clone healthy: doctor, backup and restore, trimming, the bill of materials."""
