"""Formulas: pure functions on tensors, in nats, without parameters."""
