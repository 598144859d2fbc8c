"""Whole episodes in unseen layouts: playing them, measuring them, keeping them on disk."""
