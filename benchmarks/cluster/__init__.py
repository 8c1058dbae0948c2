"""A cluster on one machine, and what is done to it."""
