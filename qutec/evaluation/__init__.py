"""What `qutec.evaluate` is made of: data, executions, scores, suggestions, and how they print."""
