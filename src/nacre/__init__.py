"""nacre: agents that learn a new task within a few episodes."""
