"""Pictures of kitchens: read back from the text that an agent is shown, drawn as SVG."""
