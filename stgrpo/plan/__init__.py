"""What a config takes on hardware that need not be there: updates, sampling, and requests to servers."""
