"""What our Singer taps and targets share."""
