"""A Kaggle on 127.0.0.1."""
