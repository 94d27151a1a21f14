"""What can be done with model services, their models and what they generate: one module a noun."""
