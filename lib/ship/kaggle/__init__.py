"""All dealings with Kaggle: the client's process, calls, deadlines and sending once."""
