"""What the service watches over time, per group and feature: counters, and pure functions over counts."""
