"""Data loaders: requests for samples, training examples, and data sets in memory."""
