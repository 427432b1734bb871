"""What is observed: counters of arms, tick by tick."""
