"""Scores of embedding tables and rankings; nothing here knows what made them."""
