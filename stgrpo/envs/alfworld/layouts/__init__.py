"""Where games come from: the downloaded data, and a generator of our own."""
