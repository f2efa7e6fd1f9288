"""From trained networks to probabilities: views, members, blends, calibration, pseudo-labels."""
