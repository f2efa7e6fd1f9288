"""Do without internet: find packages and weights that are mounted as datasets."""
