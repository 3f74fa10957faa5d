"""What a person sees of a running sort: progress and memory."""
