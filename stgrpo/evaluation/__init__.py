"""Whole episodes in unseen kitchens: playing them, measuring them, keeping them on disk."""
