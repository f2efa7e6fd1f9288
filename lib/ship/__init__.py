"""From the repository to a public score, through the real kaggle client (local only)."""
