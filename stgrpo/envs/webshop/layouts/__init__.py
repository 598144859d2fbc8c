"""Goals by names: those of the benchmark's products, and those of a catalogue of our own."""
