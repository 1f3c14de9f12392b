"""What kvip shows of itself: health and metrics over HTTP."""
