"""Values that documents hold: units, names of arms, addresses, cron times."""
