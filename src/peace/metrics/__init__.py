"""Measures that torchmetrics and scikit-learn lack, or give only for one query at a time."""
