"""What the queue costs, measured side by side in one run; quote the ratios."""
